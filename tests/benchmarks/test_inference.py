"""The inference benchmark: weights that find something, batches as the pipeline makes them, turns, the whole run."""

import pytest
import torch

from fcos_cli.benchmarks import inference
from fcos_cli.data.sources.files import image_files
from fcos_cli.model.fcos import FCOS
from fcos_cli.recipe.load import load_recipe
from fcos_cli.recipe.schema import ModelConfig
from fcos_cli.recipe.schema import TestConfig as Limits
from fcos_cli.runtime.predictor import Predictor
from fcos_cli.weights.saved import load_detector


def test_random_weights_find_plenty(tiny, tmp_path):
    loaded = load_recipe(str(tiny), []).recipe
    model = FCOS(loaded.model, 80)
    inference.write_images(tmp_path, 2)
    data = image_files([str(tmp_path)])
    cpu = torch.device("cpu")
    assert all(len(r.boxes) == 0 for r in Predictor(model, loaded.test, device=cpu).run(data))
    inference.busy_weights(model, data, loaded.test)
    assert all(len(r.boxes) > 20 for r in Predictor(model, loaded.test, device=cpu).run(data))


def test_turns_are_taken(tiny_detector, make_images):
    detector = load_detector(tiny_detector)
    data = image_files([str(make_images({f"{i}.png": (64, 64) for i in range(3)}))])
    predictor = Predictor(detector.model, detector.recipe.test, device=torch.device("cpu"))
    seen = []

    def other(images):
        seen.append(list(images))
        return {"all": 2.0}

    (timings,) = inference.compare(data, predictor, [2], 2, other)
    assert [timing.name for timing in timings] == ["fcos", "torchvision"]
    assert seen == [[0, 1]] * 3
    assert timings[1].passes == [{"all": 1.0}, {"all": 1.0}]
    assert timings[1].images_per_second == 1
    assert timings[1].spread("all") == 0


def test_batches_are_of_like_shape_from_all_over_the_shapes(make_images):
    sizes = {f"{i}.png": [(60, 20), (20, 60), (40, 40)][i % 3] for i in range(9)}
    data = image_files([str(make_images(sizes))])
    test = Limits(short_side=64, long_side=640)
    batches = inference.like_batches(data, test, 3, 4)
    # The pipeline never pads a wide image to a high one's height.
    assert {tuple(sorted(batch)) for batch in batches} == {(0, 3, 6), (1, 4, 7), (2, 5, 8)}
    assert [len({i % 3 for i in batch}) for batch in inference.like_batches(data, test, 1, 3)] == [1, 1, 1]
    assert {batch[0] % 3 for batch in inference.like_batches(data, test, 1, 3)} == {0, 1, 2}
    assert [len(batch) for batch in inference.like_batches(data, test, 20, 2)] == [20, 20]


def test_the_pipeline_is_measured_warm_and_as_the_command_has_it(tiny_detector, make_images, monkeypatch):
    data = image_files([str(make_images({f"{i}.png": (64, 64) for i in range(3)}))])
    detector = load_detector(tiny_detector)
    predictor = Predictor(detector.model, detector.recipe.test, device=torch.device("cpu"), batch_size=1)
    calls = []
    run = predictor.run
    monkeypatch.setattr(predictor, "run", lambda data, **options: calls.append(options) or run(data, **options))
    assert inference.whole_run(data, predictor)[0] > 0
    assert calls == [{"draft": True}] * 2


def test_stages_of_torchvision(torchvision, tmp_path):
    inference.write_images(tmp_path, 1)
    data = image_files([str(tmp_path)])
    model = FCOS(ModelConfig.model_validate({"backbone": {"name": "resnet18", "weights": ""}}), 5)
    limits = Limits(short_side=64, long_side=96)
    predictor = Predictor(model, limits, device=torch.device("cpu"))
    taken = inference.torchvision_pass(data, predictor, 5)([0])
    assert taken["all"] == pytest.approx(taken["decode"] + taken["all but decode"])
