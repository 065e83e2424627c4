"""`fcos data list` and `fcos data check`."""

import json
from pathlib import Path

import pytest
from PIL import Image
from typer.testing import CliRunner

from fcos_cli.commands.data import app
from fcos_cli.errors import DataError

run = CliRunner()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with ./data/cells in COCO's layout, a broken data set and one that is none; nothing else in sight."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FCOS_DATA", raising=False)
    for split in ("train", "val"):
        file = tmp_path / "data" / "cells" / "annotations" / f"instances_{split}.json"
        file.parent.mkdir(parents=True, exist_ok=True)
        annotations = [{"id": 1, "image_id": 4, "category_id": 1, "bbox": [1, 1, 9, 9]}]
        images = [{"id": 4, "file_name": "4.jpg", "width": 30, "height": 20}]
        categories = [{"id": 1, "name": "cell [round]"}]
        file.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))
        folder = tmp_path / "data" / "cells" / split
        folder.mkdir()
        Image.new("RGB", (30, 20)).save(folder / "4.jpg")
    (tmp_path / "data" / "empty").mkdir()
    broken = tmp_path / "data" / "broken" / "annotations" / "instances_val.json"
    broken.parent.mkdir(parents=True)
    broken.write_text('{"images": [')
    return tmp_path


def test_list(home: Path) -> None:
    result = run.invoke(app, ["list"])
    assert result.exit_code == 0
    for text in ("shapes", "built in", "cells", "COCO", "train 1, val 1", "not understood"):
        assert text in result.stdout
    assert "looked in data\n" in result.stderr
    assert "looked in datasets (no such folder)" in result.stderr
    assert "the file ends in the middle" in result.stderr


def test_list_json(home: Path) -> None:
    content = json.loads(run.invoke(app, ["list", "--json"]).stdout)
    entries = {entry["name"]: entry for entry in content["data"]}
    assert list(entries) == ["shapes", "broken", "cells", "empty"]
    assert entries["cells"]["splits"] == {"train": 1, "val": 1}
    assert entries["cells"]["path"] == "data/cells"
    assert entries["shapes"]["splits"]["train"] > 0
    assert "holds no data set" in entries["empty"]["problem"]
    assert content["looked_in"] == [{"path": "data", "exists": True}, {"path": "datasets", "exists": False}]


def test_check_shows_every_split(home: Path) -> None:
    result = run.invoke(app, ["check", "cells"])
    assert result.exit_code == 0
    assert "cells train" in result.stdout
    assert "cells val" in result.stdout
    assert "cell [round]" in result.stdout
    assert "nothing stands in the way" in result.stderr


def test_check_one_split_as_json(home: Path) -> None:
    result = run.invoke(app, ["check", "cells", "--split", "validation", "--images", "--json"])
    assert result.exit_code == 0
    content = json.loads(result.stdout)
    assert content["sound"] is True
    assert content["layout"] == "COCO"
    (report,) = content["splits"]
    assert (report["images"], report["boxes"], report["decoded"], report["broken"]) == (1, 1, True, [])
    assert report["classes"] == [{"id": 1, "name": "cell [round]", "boxes": 1, "images": 1}]


def test_check_ends_with_3_where_an_image_is_broken(home: Path) -> None:
    (home / "data" / "cells" / "val" / "4.jpg").write_bytes(b"no image")
    assert run.invoke(app, ["check", "cells"]).exit_code == 0
    result = run.invoke(app, ["check", "cells", "--images"])
    assert result.exit_code == 3
    assert "4.jpg: not an image" in result.stderr
    assert "nothing stands in the way" not in result.stderr
    result = run.invoke(app, ["check", "cells", "--images", "--json"])
    assert result.exit_code == 3
    assert json.loads(result.stdout)["sound"] is False


def test_check_of_what_is_not_there(home: Path) -> None:
    result = run.invoke(app, ["check", "sells"])
    assert isinstance(result.exception, DataError)
    assert "did you mean cells?" in result.exception.hint
    result = run.invoke(app, ["check", "cells", "--split", "tests"])
    assert isinstance(result.exception, DataError)


def test_check_real_data(shared_data: Path) -> None:
    result = run.invoke(app, ["check", str(shared_data / "bccd"), "--json"])
    assert result.exit_code == 0
    content = json.loads(result.stdout)
    assert [part["images"] for part in content["splits"]] == [205, 87, 72, 292]
    assert content["findings"] == content["between_splits"] == []
    result = run.invoke(app, ["check", str(shared_data / "coco_val2017_boxes.json")])
    assert result.exit_code == 3
    assert "none of the images is in" in result.stderr
    assert "36,781" in result.stdout


def test_check_counts_classes_by_name(tmp_path: Path) -> None:
    """The same id is another class in the other split: its boxes do not stand in that row."""
    for split, names, count in (("train", ["red", "green"], 3), ("val", ["green", "red"], 1)):
        (tmp_path / split).mkdir()
        Image.new("RGB", (50, 50)).save(tmp_path / split / f"{split}.png")
        content = {
            "images": [{"id": 1, "file_name": f"{split}.png", "width": 50, "height": 50}],
            "categories": [{"id": number, "name": name} for number, name in enumerate(names, start=1)],
            "annotations": [
                {"id": number, "image_id": 1, "category_id": 1, "bbox": [1 + number, 1, 5, 5]}
                for number in range(count)
            ],
        }
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(content))
    result = run.invoke(app, ["check", str(tmp_path)])
    assert result.exit_code == 3
    rows = [[cell.strip() for cell in line.split("│")[1:-1]] for line in result.stdout.splitlines()]
    assert ["red", "1, 2", "3 (1)", "0 (0)"] in rows
    assert ["green", "2, 1", "0 (0)", "1 (1)"] in rows
    assert "which fcos train refuses" in result.stderr


def test_check_takes_the_folder_of_the_images(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (50, 50)).save(tmp_path / "photos" / "1.png")
    content = {
        "images": [{"id": 1, "file_name": "1.png", "width": 50, "height": 50}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}],
    }
    (tmp_path / "set" / "all.json").write_text(json.dumps(content))
    result = run.invoke(app, ["check", str(tmp_path / "set")])
    assert result.exit_code == 3
    assert "name their folder with --image-dir DIR" in result.stderr
    assert run.invoke(app, ["check", str(tmp_path / "set"), "--image-dir", str(tmp_path / "photos")]).exit_code == 0
