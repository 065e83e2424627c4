import json

import pytest
from typer.testing import CliRunner

from fcos_cli.commands import bench
from fcos_cli.data.coco import read_coco
from fcos_cli.errors import FcosError
from fcos_cli.stats import bench as measured


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(measured, "IMAGES", (2, 4))
    monkeypatch.setattr(measured, "BOXES", (1, 30))
    monkeypatch.setattr(measured, "SHORT_SIDES", (64, 128))
    monkeypatch.setattr(measured, "TYPICAL_IMAGES", 3)
    monkeypatch.setattr(measured, "TYPICAL_SHORT", 64)


def test_laws():
    result = CliRunner().invoke(bench.app, ["stats", "--runs", "1", "--json"])
    found = json.loads(result.stdout)
    assert [point["x"] for point in found["laws"]["images"]["points"]] == [2, 4]
    assert [point["boxes"] for point in found["laws"]["boxes"]["points"]] == [3, 90]
    for law in found["laws"].values():
        assert all(point["seconds"] > 0 and point["floor"] > 0 and point["cells"] > 0 for point in law["points"])
    assert found["laws"]["boxes"]["points"][1]["cells"] > found["laws"]["boxes"]["points"][0]["cells"]
    assert found["commands"] == []
    assert found["machine"]["cores"] >= 1


def test_exponent_of_a_square():
    points = [measured.Point(x, 3, 3.0 * x**2, 0, 1, 1, 1) for x in (1, 2, 5)]
    assert measured.exponent("images", points) == pytest.approx(2)
    # Half as many images with twice the boxes in the same time: linear an image.
    points = [measured.Point(x, 8 // x, 3.0, 0, 1, 1, 1) for x in (1, 2, 4)]
    assert measured.exponent("boxes", points) == pytest.approx(1)


def test_whole_commands_on_copies_of_a_data_set(tmp_path):
    data = measured.made_up(4, 3)
    file = tmp_path / "copies.json"
    measured.write_copies(data, 3, file)
    copies = read_coco(file)
    assert (len(copies), len(copies.boxes)) == (12, 36)
    assert copies.boxes[12:24] == pytest.approx(data.boxes, abs=1e-3)
    assert copies.labels[24:].tolist() == data.labels.tolist()
    (run,) = measured.whole_commands(data, [["bpr", "--json"]], 2)
    assert (run.command, run.images, run.boxes) == ("fcos stats bpr --json", 8, 24)
    assert run.seconds > 0
    with pytest.raises(FcosError, match="failed"):
        list(measured.whole_commands(data, [["bpr", "--levels", "9"]]))


def test_train_times_steps_and_their_parts(fcos):
    size = ["--set", "test.short_side=96", "--set", "test.long_side=128", "--batch-size", "1", "--runs", "2"]
    result = fcos("bench", "train", "shapes", *size, "--classes", "3", "--device", "cpu", "--json")
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert told["size"] == [96, 128]
    (ours,) = told["timed"]
    assert ours["milliseconds"][0] > 0
    assert set(ours["parts"]) == {"pixels", "assignment", "network", "losses", "backward", "update"}
    shown = fcos("bench", "train", "shapes", *size, "--device", "cpu")
    assert "A training step" in shown.out
    assert "backward" in shown.out
