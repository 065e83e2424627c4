"""docs/add-a-method.md, word for word: its package is installed by pip, and trains."""

import base64
import hashlib
import json
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "add-a-method.md").read_text(encoding="utf-8")
SHORT = (
    "data.short_side=64",
    "data.long_side=96",
    "data.workers=0",
    "model.backbone.width=8",
    "schedule.iterations=20",
    "schedule.warmup_iterations=4",
    "train.log_every=5",
    "train.precision=float32",
    "train.checkpoint_every=0",
)


def blocks(language):
    """The page's code by the file name in its first line."""
    found = re.findall(rf"```{language}\n# (\S+)\n(.*?)```", PAGE, re.DOTALL)
    return dict(found)


def test_the_example_is_about_sixty_lines():
    assert len(blocks("python")["fcos_cells.py"].splitlines()) <= 70


@pytest.fixture
def cells(tmp_path, monkeypatch):
    """The page's package, a wheel that pip has installed into a folder of new processes' path."""
    project = tomllib.loads(blocks("toml")["pyproject.toml"])["project"]
    name, version = project["name"].replace("-", "_"), project["version"]
    points = "".join(
        f"[{group}]\n" + "".join(f"{key} = {value}\n" for key, value in entries.items())
        for group, entries in project["entry-points"].items()
    )
    about = f"{name}-{version}.dist-info"
    files = {
        **blocks("python"),
        f"{about}/METADATA": f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {version}\n",
        f"{about}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{about}/entry_points.txt": points,
    }
    record = [f"{path},sha256={digest(text)},{len(text.encode())}" for path, text in files.items()]
    files[f"{about}/RECORD"] = "\n".join([*record, f"{about}/RECORD,,", ""])
    wheel = tmp_path / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    place = tmp_path / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(place)]
    subprocess.run([*command, str(wheel)], check=True, capture_output=True)
    monkeypatch.setenv("PYTHONPATH", str(place))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cells.toml").write_text(blocks("toml")["cells.toml"])
    return tmp_path / "cells.toml"


def digest(text):
    return base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()


def test_the_example_installs_and_trains(cells, run_fcos):
    keys = run_fcos("recipe", "keys", "assign", "--json")
    assert keys.returncode == 0, keys.stderr
    by_method = {entry["key"]: entry["method"] for entry in json.loads(keys.stdout)["keys"]}
    assert by_method["assign.reach"] == "cells"
    assert by_method["assign.center_sampling"] == "fcos"

    stats = run_fcos("stats", "bpr", "--data", "shapes", "--split", "val", "--recipe", cells, "--json")
    assert stats.returncode == 0, stats.stderr
    figures = json.loads(stats.stdout)
    assert figures["assign"] == {"name": "cells", "reach": 2}
    assert figures["bpr"] > 95

    overrides = [part for text in SHORT for part in ("--set", text)]
    trained = run_fcos("train", cells, "--run-dir", "run", "--device", "cpu", *overrides)
    assert trained.returncode == 0, trained.stderr
    rows = [json.loads(line) for line in Path("run/metrics.jsonl").read_text().splitlines()]
    losses = [row["loss"] for row in rows if "loss" in row]
    assert len(losses) == 4
    assert losses[-1] < losses[0]
    assert all(row["positives"] > 0 for row in rows if "positives" in row)
    stored = tomllib.loads(Path("run/recipe.toml").read_text())
    assert stored["assign"] == {"name": "cells", "reach": 2}
