"""A recipe and a data set small enough to train in a test."""

from pathlib import Path

import pytest

from fcos_cli.data import shapes
from fcos_cli.data.records import DetectionData
from fcos_cli.training import session

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


@pytest.fixture(autouse=True)
def few_images(monkeypatch: pytest.MonkeyPatch) -> None:
    """`shapes` with few images, so that an evaluation takes no time."""

    def small(spec: str, split: str | None = None) -> DetectionData:
        return shapes.shapes_data(split or "train", count=24 if split == "train" else 6)

    monkeypatch.setattr(session, "open_data", small)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory, so that `runs/` is the test's own."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A recipe file that trains 20 iterations in a few seconds."""
    path = tmp_path / "tiny.toml"
    path.write_text(TINY, encoding="utf-8")
    return path
