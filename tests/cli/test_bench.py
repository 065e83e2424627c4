import json
import sys

import pytest
from typer.testing import CliRunner

from fcos_cli.benchmarks import inference as prediction
from fcos_cli.benchmarks import statistics as measured
from fcos_cli.commands import bench
from fcos_cli.errors import UsageError


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


PREDICT = ["predict", "--runs", "2", "--batch-size", "1,2", "--device", "cpu"]


def test_predict_by_stage(tiny):
    done = CliRunner().invoke(bench.app, [*PREDICT, "--recipe", str(tiny), "--json"])
    assert done.exit_code == 0, done.output
    found = json.loads(done.stdout)
    assert [(one["name"], one["batch_size"], len(one["passes"])) for one in found["timings"]] == [
        ("fcos", 1, 2),
        ("fcos", 2, 2),
    ]
    for one in found["timings"]:
        for each in one["passes"]:
            assert set(each) == {*prediction.STAGES, "all"}
            assert min(each.values()) > 0
            assert each["all"] == pytest.approx(sum(each[stage] for stage in prediction.STAGES))
        assert one["images_per_second"] == pytest.approx(1 / one["median"]["all"])
    assert found["pipeline"]["images_per_second"] > 0
    assert found["pipeline"]["peak_memory"] > 10_000_000
    assert found["machine"]["precision"].split(":")[0] in ("float32", "bfloat16")


def test_predict_with_weights_on_own_images(tiny_detector, make_images):
    folder = make_images({"a.png": (90, 64), "b.png": (64, 64)})
    arguments = [*PREDICT, "--weights", str(tiny_detector), "--images", str(folder), "--precision", "float32"]
    done = CliRunner().invoke(bench.app, arguments)
    assert done.exit_code == 0, done.output
    assert "network" in done.stdout
    assert "float32: as asked" in done.stderr
    assert "over 2 images" in done.stderr


def test_predict_says_when_torchvision_is_not_there(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.models.detection", None)
    done = CliRunner().invoke(bench.app, [*PREDICT, "--recipe", str(tiny), "--against", "torchvision"])
    assert done.exit_code == 0, done.output
    (line,) = [line for line in done.stderr.splitlines() if "torchvision" in line]
    assert "does not import" in line
    assert "fcos-toolkit[torchvision]" in line
    assert "only ours" in line


def test_against_torchvision(torchvision, tiny):
    command = [*PREDICT, "--recipe", str(tiny), "--against", "torchvision"]
    done = CliRunner().invoke(bench.app, command)
    assert done.exit_code == 0, done.output
    assert "warning" not in done.stderr
    assert done.stderr.count("times as fast as torchvision") == 2
    command = ["train", str(tiny), "--batch-size", "1", "--classes", "3", "--runs", "1", "--device", "cpu"]
    done = CliRunner().invoke(bench.app, [*command, "--against", "torchvision"])
    assert done.exit_code == 0, done.output
    assert "warning" not in done.stderr
    assert "torchvision" in done.stdout


@pytest.mark.parametrize("sizes", ["", "a", "1,0", "1;2"])
def test_batch_sizes_that_are_none(sizes):
    with pytest.raises(UsageError, match="--batch-size"):
        CliRunner().invoke(bench.app, ["predict", "--batch-size", sizes], catch_exceptions=False)
