"""Test-time augmentation: what the passes see, the way back to one image, and the merge against plain loops."""

import numpy as np
import pytest
import torch
from PIL import Image

from fcos_cli.data.images import read_image
from fcos_cli.data.sample import prepare
from fcos_cli.data.sources.files import image_files
from fcos_cli.geometry.resize import padded_size
from fcos_cli.model.fcos import FCOS
from fcos_cli.recipe.schema import ModelConfig
from fcos_cli.recipe.schema import TestConfig as Limits
from fcos_cli.recipe.schema import TestTimeConfig as Passes
from fcos_cli.runtime.augmented import AugmentedPredictor, further_sizes, passes
from fcos_cli.runtime.predictor import Predictor
from fcos_cli.weights.saved import load_detector

COLUMNS = ("boxes", "scores", "labels", "level", "location")


class CellFinder(FCOS):
    """Detects where the image is bright, cell by cell of one level, without weights: the same mirrored as not.

    A cell is found with a logit that grows with its mean brightness, as a box of twice the stride around its centre.
    """

    def __init__(self):
        config = {
            "backbone": {"name": "resnet18", "width": 8, "norm": "bn", "frozen_stages": 0, "weights": ""},
            "pyramid": {"channels": 32, "levels": [3]},
            "head": {"convs": 0, "norm": "none", "quality": "none"},
        }
        super().__init__(ModelConfig.model_validate(config), 1)
        self.seen = []

    def forward(self, pixels):
        self.seen.append(tuple(pixels.shape))
        gray = (pixels * self.pixel_std + self.pixel_mean).mean(1, keepdim=True)
        logits = torch.nn.functional.avg_pool2d(gray, 8) / 16 - 10
        sides = torch.full((len(pixels), 4, *logits.shape[2:]), 8.0).log()
        return {"classification": [logits], "box": [sides]}


def limits(scales, flip, **more):
    tta = Passes(scales=scales, long_side=3.0, flip=flip)
    return Limits(short_side=64, long_side=128, batch_size=2, tta=tta, **more)


def run(kind, model, test, data, **options):
    found = kind(model, test, precision="float32", **options).run(data)
    return {data.file_names[result.index]: result for result in found}


def same(a, b):
    assert a.keys() == b.keys()
    for name in a:
        for column in COLUMNS:
            np.testing.assert_array_equal(getattr(a[name], column), getattr(b[name], column), err_msg=column)


@pytest.fixture
def data(make_images):
    return image_files([str(make_images({"a.png": (90, 70), "b.png": (120, 60), "c.png": (50, 80)}))])


@pytest.mark.parametrize("threshold", [None, 0.42, np.array([0.45, 0.5, 0.42])])
def test_one_pass_is_a_plain_prediction(tiny_detector, data, threshold):
    detector = load_detector(tiny_detector)
    test = limits([], flip=False, max_detections=40)
    plain = run(Predictor, detector.model, test, data, threshold=threshold)
    assert sum(len(result.scores) for result in plain.values()) > 10
    same(run(AugmentedPredictor, detector.model, test, data, threshold=threshold), plain)


def test_the_passes_are_the_authors():
    assert further_sizes(Limits()) == [(short, 2000) for short in (400, 500, 600, 700, 900, 1000, 1100, 1200)]
    assert passes(Limits()).startswith("18 passes an image: short side 400, 500, 600, 700, 800, 900,")


def test_a_mirrored_image_gives_mirrored_detections(tmp_path):
    rng = np.random.default_rng(0)
    # A width of whole cells, so that cells lie on cells in the mirror.
    pixels = np.kron(rng.integers(0, 255, (8, 12, 1)), np.ones((8, 8, 3))).astype(np.uint8)
    for name, image in (("as.png", pixels), ("mirrored.png", pixels[:, ::-1])):
        Image.fromarray(image).save(tmp_path / name)
    found = run(AugmentedPredictor, CellFinder(), limits([0.5, 1.5], flip=True), image_files([str(tmp_path)]))
    one, other = found["as.png"], found["mirrored.png"]
    assert len(one.scores) > 20

    def rows(boxes, scores):
        return sorted(map(tuple, np.round(np.column_stack([scores, boxes]), 3).tolist()))

    mirrored = np.stack([96 - other.boxes[:, 2], other.boxes[:, 1], 96 - other.boxes[:, 0], other.boxes[:, 3]], axis=1)
    np.testing.assert_allclose(rows(one.boxes, one.scores), rows(mirrored, other.scores), atol=0.002)


def brute_force(model, test, path):
    """The merge of one image by loops: passes one at a time, NMS one pair at a time. Rows (score, label, x0 .. y1)."""
    image = read_image(path)
    every = test.model_copy(update={"nms_iou": 1.0, "max_detections": 100_000})
    predictor = Predictor(model, every, precision="float32")
    model.eval()
    candidates = []
    for short, long in [(test.short_side, test.long_side), *further_sizes(test)]:
        for flip in (False, True) if test.tta.flip else (False,):
            prepared = prepare(image, np.zeros((0, 4)), short, long)
            pixels = prepared.image[:, ::-1] if flip else prepared.image
            found = predictor.detect([torch.from_numpy(pixels.copy())])
            for score, label, box in zip(
                found.scores.tolist(), found.labels.tolist(), found.boxes.tolist(), strict=True
            ):
                x0, y0, x1, y1 = box
                if flip:
                    x0, x1 = prepared.image.shape[1] - x1, prepared.image.shape[1] - x0
                rx, ry = prepared.ratios
                candidates.append((score, label, x0 / rx, y0 / ry, x1 / rx, y1 / ry))
    kept = []
    for row in sorted(candidates, key=lambda row: -row[0]):
        if not any(row[1] == other[1] and iou(row[2:], other[2:]) > test.nms_iou for other in kept):
            kept.append(row)
    return np.array(kept[: test.max_detections])


def iou(a, b):
    w, h = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    both = max(w, 0) * max(h, 0)
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - both
    return both / union if union > 0 else 0.0


@pytest.mark.parametrize("flip", [False, True])
def test_the_merge_is_one_nms_over_all_passes(tiny_detector, data, flip):
    model = load_detector(tiny_detector).model
    test = limits([0.5, 1.0, 1.25], flip=flip, max_detections=30, candidates=40, score_threshold=0.3)
    # One image a batch: padding differs in batches, and with it what a network sees.
    found = run(AugmentedPredictor, model, test, data, batch_size=1)
    for index, name in enumerate(data.file_names):
        expected = brute_force(model, test, data.path(index))
        assert len(expected) == 30
        result = found[name]
        np.testing.assert_allclose(result.scores, expected[:, 0], rtol=1e-6)
        assert result.labels.tolist() == expected[:, 1].tolist()
        np.testing.assert_allclose(result.boxes, expected[:, 2:], atol=1e-3)


def test_detections_keep_the_location_of_their_pass(tmp_path):
    pixels = np.zeros((64, 96, 3), dtype=np.uint8)
    pixels[8:16, 72:80] = 255
    Image.fromarray(pixels).save(tmp_path / "spot.png")
    (result,) = AugmentedPredictor(CellFinder(), limits([], flip=True), precision="float32").run(
        image_files([str(tmp_path)])
    )
    # The plain pass comes first, and of two equal scores the first stays.
    assert result.location.tolist() == [[76, 12]]
    np.testing.assert_allclose(result.boxes, [[68, 4, 84, 20]], atol=1e-4)
    (result,) = AugmentedPredictor(CellFinder(), limits([2.0], flip=False), precision="float32").run(
        image_files([str(tmp_path)])
    )
    larger = [[x, y] for x, y in result.location.tolist() if [x, y] != [76, 12]]
    assert set(result.level.tolist()) == {3}
    assert larger
    assert all(abs(x - 152) <= 8 and abs(y - 24) <= 8 for x, y in larger)


def test_batches_are_cut_where_images_are_large(make_images):
    model = CellFinder()
    data = image_files([str(make_images({f"{i}.png": (96, 64) for i in range(4)}))])
    test = limits([0.5, 2.0], flip=True)
    found = run(AugmentedPredictor, model, test, data, batch_size=4)
    assert len(found) == 4
    budget = 4 * np.prod(padded_size(96, 64))
    assert max(n * h * w for n, _, h, w in model.seen) <= budget
    assert {shape[0] for shape in model.seen} == {1, 4}


def test_a_batch_finds_what_single_images_do(make_images):
    data = image_files([str(make_images({f"{i}.png": (96, 64) for i in range(5)}))])
    test = limits([0.5, 1.5], flip=True)
    same(
        run(AugmentedPredictor, CellFinder(), test, data, batch_size=1),
        run(AugmentedPredictor, CellFinder(), test, data, batch_size=3),
    )
