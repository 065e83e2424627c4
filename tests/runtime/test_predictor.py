"""From images on disk to boxes in their own pixels."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from fcos_cli.data.sources.files import image_files
from fcos_cli.errors import DataError
from fcos_cli.evaluation.detections import ImageResult
from fcos_cli.model.fcos import FCOS
from fcos_cli.recipe.schema import ModelConfig
from fcos_cli.recipe.schema import TestConfig as Limits
from fcos_cli.runtime.predictor import Predictor
from fcos_cli.weights.saved import load_detector

TEST = Limits(short_side=96, long_side=160, batch_size=3)


class BrightSpotFinder(FCOS):
    """A detector that finds white rectangles on black, so that what it must answer is known without any weights."""

    def __init__(self):
        config = {
            "backbone": {"name": "resnet18", "width": 8, "norm": "bn", "frozen_stages": 0, "weights": ""},
            "pyramid": {"channels": 32, "levels": [3]},
            "head": {"convs": 0, "norm": "none", "quality": "none"},
        }
        super().__init__(ModelConfig.model_validate(config), 2)
        self.seen = []
        self.found_at = []

    def forward(self, pixels):
        self.seen.append(tuple(pixels.shape))
        images, _, height, width = pixels.shape
        ((rows, columns),) = self.pyramid.grids(height, width)
        logits = torch.full((images, 2, rows, columns), -20.0)
        sides = torch.zeros(images, 4, rows, columns)
        for image in range(images):
            gray = pixels[image, 0] * self.pixel_std[0] + self.pixel_mean[0]
            # The padding is 0 after normalisation, so it looks like the mean: only white counts.
            y, x = torch.nonzero(gray > 200, as_tuple=True)
            x0, x1, y0, y1 = int(x.min()), int(x.max()) + 1, int(y.min()), int(y.max()) + 1
            column, row = (x0 + x1) // 2 // 8, (y0 + y1) // 2 // 8
            cx, cy = 4 + 8 * column, 4 + 8 * row
            self.found_at.append([cx, cy])
            logits[image, 1, row, column] = 5.0
            sides[image, :, row, column] = torch.tensor([cx - x0, cy - y0, x1 - cx, y1 - cy]).float().log()
        return {"classification": [logits], "box": [sides]}


BOXES = {
    "wide.png": ((640, 400), (200, 100, 520, 300)),
    "tall.png": ((300, 500), (30, 250, 150, 450)),
    "small.png": ((48, 32), (8, 4, 40, 28)),
    "long.png": ((1000, 100), (400, 20, 800, 90)),
    "corner.png": ((333, 217), (0, 0, 120, 110)),
}


@pytest.fixture
def spots(tmp_path):
    for name, ((width, height), (x0, y0, x1, y1)) in BOXES.items():
        pixels = np.zeros((height, width, 3), dtype=np.uint8)
        pixels[y0:y1, x0:x1] = 255
        Image.fromarray(pixels).save(tmp_path / name)
    return image_files([str(tmp_path)])


def test_boxes_come_back_in_original_pixels(spots):
    model = BrightSpotFinder()
    found = {spots.file_names[r.index]: r for r in Predictor(model, TEST, precision="float32").run(spots)}
    assert found.keys() == BOXES.keys()
    assert max(shape[0] for shape in model.seen) == 3
    for name, (size, box) in BOXES.items():
        result = found[name]
        assert result.size == size
        assert result.image_id == spots.image_ids[list(spots.file_names).index(name)]
        assert result.labels.tolist() == [1]
        assert result.scores[0] == pytest.approx(1 / (1 + math.exp(-5)), rel=1e-5)
        # The edges are known to about one network pixel: short side 96, long side at most 160 of them.
        pixel = max(min(size) / 96, max(size) / 160)
        np.testing.assert_allclose(result.boxes[0], box, atol=max(1.0, 1.1 * pixel), err_msg=name)
        assert (result.boxes >= 0).all()
        assert (result.boxes <= [*size, *size]).all()


def test_locations_are_in_pixels_whatever_the_padding(spots):
    alone, together = BrightSpotFinder(), BrightSpotFinder()
    results = list(Predictor(together, TEST, precision="float32").run(spots))
    assert [result.location.tolist() for result in results] == [[found] for found in together.found_at]
    assert {level for result in results for level in result.level.tolist()} == {3}
    single = {r.index: r for r in Predictor(alone, TEST, precision="float32", batch_size=1).run(spots)}
    assert (160, 160) in {shape[2:] for shape in together.seen} - {shape[2:] for shape in alone.seen}
    assert all(r.location.tolist() == single[r.index].location.tolist() for r in results)


def test_model_keeps_its_mode_and_layout(tiny_detector, make_images):
    model = load_detector(tiny_detector).model.train()
    strides = [p.stride() for p in model.parameters()]
    list(Predictor(model, TEST).run(image_files([str(make_images({"a.png": (40, 30)}))])))
    assert model.training
    assert [p.stride() for p in model.parameters()] == strides
    assert not any(p.is_inference() for p in model.state_dict().values())


def test_training_goes_on_after_a_prediction(tiny_detector, make_images):
    model = load_detector(tiny_detector).model.train()
    list(Predictor(model, TEST).run(image_files([str(make_images({"a.png": (40, 30)}))])))
    outputs = model(torch.randn(1, 3, 64, 64))
    sum(logits.sum() for logits in outputs["classification"]).backward()
    assert any(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


def test_results_do_not_depend_on_the_batch_much(tiny_detector, make_images):
    detector = load_detector(tiny_detector)
    data = image_files([str(make_images({f"{i}.png": (60 + 8 * i, 64) for i in range(5)}))])

    def scores(batch_size):
        predictor = Predictor(detector.model, detector.recipe.test, precision="float32", batch_size=batch_size)
        return {r.index: r.scores[:5] for r in predictor.run(data)}

    alone, together = scores(1), scores(5)
    assert alone.keys() == together.keys() == set(range(5))
    for index, best in alone.items():
        np.testing.assert_allclose(best, together[index], rtol=0.05)


def test_threshold(tiny_detector, make_images):
    detector = load_detector(tiny_detector)
    data = image_files([str(make_images({"a.png": (90, 64)}))])

    def scores(threshold, **test):
        settings = detector.recipe.test.model_copy(update=test)
        (result,) = Predictor(detector.model, settings, precision="float32", threshold=threshold).run(data)
        return result.scores

    everything = scores(None)
    middle = float(np.median(everything))
    assert 0 < len(scores(middle)) < len(everything)
    assert scores(middle).min() >= middle
    assert len(scores(1.0)) == 0
    # A threshold below the recipe's lowers the recipe's.
    assert len(scores(None, score_threshold=0.99)) == 0
    assert len(scores(0.05, score_threshold=0.99)) > 0


def test_broken_images_are_named_and_the_others_done(tiny_detector, make_images):
    folder = make_images({"a.png": (40, 30), "c.png": (40, 30), "d.png": (30, 40)})
    (folder / "b.png").write_bytes(b"no image at all")
    whole = (folder / "d.png").read_bytes()
    (folder / "e.png").write_bytes(whole[: len(whole) // 2])
    data = image_files([str(folder)])
    detector = load_detector(tiny_detector)
    failed = []
    results = list(Predictor(detector.model, TEST).run(data, failed))
    assert sorted(data.file_names[r.index] for r in results) == ["a.png", "c.png", "d.png"]
    assert sorted(failure.file_name for failure in failed) == ["b.png", "e.png"]
    assert all(failure.reason for failure in failed)
    with pytest.raises(DataError):
        list(Predictor(detector.model, TEST).run(data))


def test_numbers_that_are_not_finite_are_counted(spots):
    class Diverged(BrightSpotFinder):
        def forward(self, pixels):
            outputs = super().forward(pixels)
            outputs["classification"][0][:, 0, 0, 0] = 5.0
            outputs["box"][0][:, :, 0, 0] = torch.nan
            return outputs

    results = list(Predictor(Diverged(), TEST, precision="float32").run(spots))
    assert all(isinstance(result, ImageResult) and np.isfinite(result.boxes).all() for result in results)
    # A box of NaN may be dropped by the kernels or here, but is never passed on.
    assert all(len(result.boxes) == 1 and result.invalid in (0, 1) for result in results)
