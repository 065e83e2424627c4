"""`fcos data convert`."""

import json

import pytest
from typer.testing import CliRunner

from fcos_cli.commands.data import app
from fcos_cli.errors import UsageError

run = CliRunner()


def test_counts_and_what_was_left_out(tmp_path):
    data = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 40]},
            {"id": 2, "image_id": 1, "category_id": 3, "bbox": [1, 2, 30, 40], "iscrowd": 1},
            {"id": 3, "image_id": 1, "category_id": 3, "bbox": [1, 2, 0, 40]},
        ],
    }
    from PIL import Image

    Image.new("RGB", (40, 30)).save(tmp_path / "a.jpg")
    (tmp_path / "boxes.json").write_text(json.dumps(data))
    arguments = ["convert", str(tmp_path / "boxes.json"), "--to", "yolo", "--out"]
    result = run.invoke(app, [*arguments, str(tmp_path / "one"), "--json"])
    assert result.exit_code == 0
    content = json.loads(result.stdout)
    assert content["splits"] == {"all": {"images": 1, "boxes": 1}}
    assert list(content["left_out"].values()) == [1]
    assert any("cut at their image's border" in line for line in content["changed"])
    result = run.invoke(app, [*arguments, str(tmp_path / "two")])
    assert "left out: crowd" in result.stderr
    assert "all: on reading: left out: boxes with a side of zero or less (1)" in result.stderr
    assert f"next: fcos data check {tmp_path / 'two'}" in result.stderr
    assert (tmp_path / "two/labels/all/a.txt").read_text() == "0 0.40000000 0.53333333 0.75000000 0.93333333\n"
    assert isinstance(run.invoke(app, [*arguments, str(tmp_path / "two")]).exception, UsageError)


@pytest.mark.parametrize("option", [["--to", "tfrecord"], ["--to", "coco", "--images", "move"]])
def test_what_is_not_known_is_a_usage_error(tmp_path, option):
    assert run.invoke(app, ["convert", "shapes", "--out", str(tmp_path / "out"), *option]).exit_code == 2
