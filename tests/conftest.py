"""Shared fixtures. Real data lies beside the checkout (or at $FCOS_SHARED_DATA); tests that need it skip without it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:
    # Before torch is imported: processes of several threads each would wait for one another's cores.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

TINY = """
[model.backbone]
name = "resnet18"
width = 8
norm = "bn"
frozen_stages = 0
weights = ""
[model.pyramid]
channels = 16
levels = [3, 4, 5]
[model.head]
convs = 1
groups = 4
box_activation = "relu"
normalize_targets = true
quality_tower = "regression"
[assign]
center_sampling = 1.5
[loss]
box = "giou"
iou_smoothing = 0.0
[data]
dataset = "shapes"
short_side = 64
long_side = 96
workers = 0
[optimizer]
lr = 0.02
clip_norm = 10.0
[schedule]
iterations = 20
steps = [15]
warmup = "linear"
warmup_iterations = 4
[train]
batch_size = 4
precision = "float32"
checkpoint_every = 10
log_every = 5
[test]
short_side = 64
long_side = 96
"""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest test begins first, so that no process is left alone with it at the end."""
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real data sets."""
    folder = Path(os.environ.get("FCOS_SHARED_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not folder.is_dir():
        pytest.skip(f"no shared data at {folder}")
    return folder


@pytest.fixture(scope="session")
def torchvision():
    """torchvision, an extra; tests that compare with it skip where it does not import."""
    pytest.importorskip("torchvision.models.detection", exc_type=(ImportError, RuntimeError))
    import torchvision

    return torchvision


@pytest.fixture
def make_images(tmp_path):
    """Function: {name: (width, height)} -> a folder of PNG files of noise."""
    import numpy as np
    from PIL import Image

    def make(sizes, folder="images"):
        place = tmp_path / folder
        rng = np.random.default_rng(5)
        for name, (width, height) in sizes.items():
            path = place / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)
        return place

    return make


@pytest.fixture
def tiny_detector(tmp_path):
    """A saved detector of random weights (three classes, ids 2, 5, 9) small enough to run in milliseconds: its file.

    The class prior is high, so that it detects plenty.
    """
    import torch

    from fcos_cli.data.records import Categories
    from fcos_cli.model.fcos import FCOS
    from fcos_cli.recipe.schema import Recipe
    from fcos_cli.weights.saved import save_detector

    recipe = Recipe.model_validate(
        {
            "model": {
                "backbone": {"name": "resnet18", "width": 8, "norm": "bn", "frozen_stages": 0, "weights": ""},
                "pyramid": {"channels": 32},
                "head": {"convs": 1, "groups": 8, "prior": 0.4},
            },
            "data": {"dataset": "shapes"},
            "test": {"short_side": 64, "long_side": 96, "batch_size": 2},
        }
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = FCOS(recipe.model, 3)
    path = tmp_path / "detector" / "weights.safetensors"
    save_detector(path, model, recipe, Categories((2, 5, 9), ("cat", "dog", "owl")))
    return path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A recipe file that trains 20 iterations in a few seconds."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return path


@pytest.fixture
def install(tmp_path, monkeypatch):
    """Function: a package's name, its one module's source, its entry points -> it can be imported by new processes."""

    def put(name, source, entry_points):
        place = tmp_path / "installed"
        about = place / f"{name}-1.0.dist-info"
        about.mkdir(parents=True)
        (place / f"{name}.py").write_text(source, encoding="utf-8")
        (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n", encoding="utf-8")
        lines = [f"{key} = {value}" for key, value in entry_points.items()]
        (about / "entry_points.txt").write_text("\n".join(["[fcos_cli.methods]", *lines, ""]), encoding="utf-8")
        monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(place), os.environ.get("PYTHONPATH", "")]))
        return place

    return put


@pytest.fixture
def soft_method(install):
    """A method that uses every part of the seam, installed for new processes: tests/soft_method.py."""
    source = (Path(__file__).parent / "soft_method.py").read_text(encoding="utf-8")
    return install("soft_method", source, {"soft": "soft_method:METHOD"})


@pytest.fixture
def run_fcos():
    """Function: arguments of `fcos` -> the finished process, a new one of this checkout."""
    root = Path(__file__).parents[1]

    def run(*arguments, timeout=300):
        paths = [str(root), str(root / "kernels"), os.environ.get("PYTHONPATH", "")]
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(paths)}
        command = [sys.executable, "-m", "fcos_cli", *map(str, arguments)]
        return subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=timeout, check=False, cwd=os.getcwd()
        )

    return run
