"""A sound copy of a data set: what is left out of it, and what stays."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fcos_cli.commands.data import app
from fcos_cli.data.datasets import open_data
from fcos_cli.errors import UsageError

run = CliRunner()


@pytest.fixture
def folder(tmp_path):
    """COCO with one of everything that is wrong."""
    rng = np.random.default_rng(0)
    boxes = {
        "train/good.jpg": [[10, 10, 30, 20], [-5, 50, 20, 30]],
        "train/broken.jpg": [[1, 1, 9, 9]],
        "train/missing.jpg": [[1, 1, 9, 9]],
        "train/twice.jpg": [[1, 1, 9, 9], [1, 1, 9, 9], [200, 10, 9, 9]],
        "train/twice too.jpg": [[1, 1, 9, 9]],
        "train/leaked.jpg": [[1, 1, 9, 9]],
        "val/leaked.jpg": [[2, 2, 9, 9]],
        "val/fine.jpg": [[2, 2, 9, 9]],
    }
    for split in ("train", "val"):
        names = [name for name in boxes if name.startswith(split)]
        images = [
            {"id": i, "file_name": name.split("/")[1], "width": 100, "height": 80} for i, name in enumerate(names, 1)
        ]
        rows = [(i, box) for i, name in enumerate(names, 1) for box in boxes[name]]
        annotations = [{"id": k, "image_id": i, "category_id": 3, "bbox": box} for k, (i, box) in enumerate(rows, 1)]
        content = {"images": images, "annotations": annotations, "categories": [{"id": 3, "name": "cat"}]}
        (tmp_path / "data/annotations").mkdir(parents=True, exist_ok=True)
        (tmp_path / f"data/annotations/{split}.json").write_text(json.dumps(content))
        (tmp_path / "data" / split).mkdir()
        for name in names:
            pixels = rng.integers(0, 255, (80, 100, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "data" / name)
    data = tmp_path / "data"
    (data / "train/missing.jpg").unlink()
    (data / "train/broken.jpg").write_bytes(b"no image")
    shutil.copy(data / "train/twice.jpg", data / "train/twice too.jpg")
    shutil.copy(data / "val/leaked.jpg", data / "train/leaked.jpg")
    return data


def test_what_is_broken_is_left_out_and_the_copy_is_sound(folder, tmp_path):
    out = tmp_path / "out"
    assert run.invoke(app, ["check", str(folder)]).exit_code == 3
    result = run.invoke(app, ["check", str(folder), "--fix", str(out)])
    assert result.exit_code == 0, result.exception
    train, val = open_data(str(out), "train"), open_data(str(out), "val")
    assert list(train.file_names) == ["good.jpg", "twice.jpg"]
    assert train.boxes.tolist() == [[10, 10, 40, 30], [0, 50, 15, 80], [1, 1, 10, 10]]
    assert sorted(val.file_names) == ["fine.jpg", "leaked.jpg"]
    assert (train.categories.ids, val.categories.ids) == ((3,), (3,))
    for text in (
        "images that are missing or cannot be read (2)",
        "images that their split holds twice, by their bytes: the one with most boxes stays (1): train: twice too.jpg",
        "images that a split to evaluate on holds as well, by their bytes (1): train: leaked.jpg",
        "left out: boxes outside of their image (1)",
        "left out: boxes that repeat another one of the same class and image exactly (1)",
        "boxes that are cut at their image's border (1): train: good.jpg",
    ):
        assert text in result.stderr
    again = run.invoke(app, ["check", str(out), "--images", "--json"])
    content = json.loads(again.stdout)
    assert (again.exit_code, content["sound"], content["findings"]) == (0, True, [])
    assert [split["warnings"] for split in content["splits"]] == [[], []]


def test_nothing_is_written_over(folder, tmp_path):
    (tmp_path / "out").write_text("mine")
    assert isinstance(run.invoke(app, ["check", str(folder), "--fix", str(tmp_path / "out")]).exception, UsageError)
    assert (tmp_path / "out").read_text() == "mine"
