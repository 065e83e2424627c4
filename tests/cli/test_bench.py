import json
import sys

import pytest
import torch
from typer.testing import CliRunner

from fcos_cli.benchmarks import inference as prediction
from fcos_cli.benchmarks import statistics as measured
from fcos_cli.commands import bench
from fcos_cli.data.formats.coco import read_coco
from fcos_cli.data.sources.files import image_files
from fcos_cli.errors import FcosError, UsageError
from fcos_cli.model.fcos import FCOS
from fcos_cli.recipe.load import load_recipe
from fcos_cli.recipe.schema import ModelConfig
from fcos_cli.recipe.schema import TestConfig as Limits
from fcos_cli.runtime.predictor import Predictor
from fcos_cli.weights.saved import load_detector


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
    assert "only ours" in line


@pytest.mark.parametrize("sizes", ["", "a", "1,0", "1;2"])
def test_batch_sizes_that_are_none(sizes):
    with pytest.raises(UsageError, match="--batch-size"):
        CliRunner().invoke(bench.app, ["predict", "--batch-size", sizes], catch_exceptions=False)


def test_random_weights_find_plenty(tiny, tmp_path):
    loaded = load_recipe(str(tiny), []).recipe
    model = FCOS(loaded.model, 80)
    prediction.write_images(tmp_path, 2)
    data = image_files([str(tmp_path)])
    cpu = torch.device("cpu")
    assert all(len(r.boxes) == 0 for r in Predictor(model, loaded.test, device=cpu).run(data))
    prediction.busy_weights(model, data, loaded.test)
    assert all(len(r.boxes) > 20 for r in Predictor(model, loaded.test, device=cpu).run(data))


def test_turns_are_taken(tiny_detector, make_images):
    detector = load_detector(tiny_detector)
    data = image_files([str(make_images({f"{i}.png": (64, 64) for i in range(3)}))])
    predictor = Predictor(detector.model, detector.recipe.test, device=torch.device("cpu"))
    seen = []

    def other(images):
        seen.append(list(images))
        return {"all": 2.0}

    (timings,) = prediction.compare(data, predictor, [2], 2, other)
    assert [timing.name for timing in timings] == ["fcos", "torchvision"]
    assert seen == [[0, 1]] * 3
    assert timings[1].passes == [{"all": 1.0}, {"all": 1.0}]
    assert timings[1].images_per_second == 1
    assert timings[1].spread("all") == 0


def test_batches_are_of_like_shape_from_all_over_the_shapes(make_images):
    sizes = {f"{i}.png": [(60, 20), (20, 60), (40, 40)][i % 3] for i in range(9)}
    data = image_files([str(make_images(sizes))])
    test = Limits(short_side=64, long_side=640)
    batches = prediction.like_batches(data, test, 3, 4)
    # The pipeline never pads a wide image to a high one's height.
    assert {tuple(sorted(batch)) for batch in batches} == {(0, 3, 6), (1, 4, 7), (2, 5, 8)}
    assert [len({i % 3 for i in batch}) for batch in prediction.like_batches(data, test, 1, 3)] == [1, 1, 1]
    assert {batch[0] % 3 for batch in prediction.like_batches(data, test, 1, 3)} == {0, 1, 2}
    assert [len(batch) for batch in prediction.like_batches(data, test, 20, 2)] == [20, 20]


def test_the_pipeline_is_measured_warm_and_as_the_command_has_it(tiny_detector, make_images, monkeypatch):
    data = image_files([str(make_images({f"{i}.png": (64, 64) for i in range(3)}))])
    detector = load_detector(tiny_detector)
    predictor = Predictor(detector.model, detector.recipe.test, device=torch.device("cpu"), batch_size=1)
    calls = []
    run = predictor.run
    monkeypatch.setattr(predictor, "run", lambda data, **options: calls.append(options) or run(data, **options))
    assert prediction.whole_run(data, predictor)[0] > 0
    assert calls == [{"draft": True}] * 2


def test_against_torchvision(tmp_path):
    pytest.importorskip("torchvision.models.detection", exc_type=(ImportError, RuntimeError))
    prediction.write_images(tmp_path, 1)
    data = image_files([str(tmp_path)])
    model = FCOS(ModelConfig.model_validate({"backbone": {"name": "resnet18", "weights": ""}}), 5)
    limits = Limits(short_side=64, long_side=96)
    predictor = Predictor(model, limits, device=torch.device("cpu"))
    taken = prediction.torchvision_pass(data, predictor, 5)([0])
    assert taken["all"] == pytest.approx(taken["decode"] + taken["all but decode"])
