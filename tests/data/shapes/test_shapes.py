"""The built-in data set: the same everywhere, boxes that fit, shapes in sight, sizes and shares as promised."""

import hashlib
import subprocess
import sys
import time
from dataclasses import replace

import numpy as np
import PIL
import pytest
from matplotlib.path import Path as Curve

from fcos_cli.data.shapes import draw as shapes_draw
from fcos_cli.data.shapes.dataset import SPLITS, shapes_data
from fcos_cli.data.shapes.layout import SHAPES, Layout
from fcos_cli.errors import DataError

PIXELS_OF_VAL_7 = "22d6f0059100235d"
BOXES_OF_VAL = "4cdefc6d1483c1eb"
# Before it, Pillow fills the odd pixel at a corner of a polygon differently.
PILLOW_OF_PIXELS = 12


def digest(array: np.ndarray) -> str:
    return hashlib.sha256(np.ascontiguousarray(array).tobytes()).hexdigest()[:16]


@pytest.fixture(scope="module")
def train():
    return shapes_data("train")


def covered(layout: Layout, row: int, width: int, height: int) -> np.ndarray:
    """bool [3 H, 3 W]: samples of the image that shape `row` covers, by matplotlib's point-in-polygon test."""
    y, x = np.mgrid[0 : 3 * height, 0 : 3 * width]
    samples = (np.stack([x.ravel(), y.ravel()], axis=1) + 0.5) / 3
    outline, hole = layout.outline(row)
    inside = Curve(outline).contains_points(samples)
    if hole is not None:
        inside &= ~Curve(hole).contains_points(samples)
    return inside.reshape(3 * height, 3 * width)


def test_pixels_and_boxes_are_the_published_ones():
    data = shapes_data("val")
    assert digest(np.round(data.boxes * 256).astype(np.int64)) == BOXES_OF_VAL
    if int(PIL.__version__.split(".")[0]) >= PILLOW_OF_PIXELS:
        assert digest(data.read(7)) == PIXELS_OF_VAL_7


def test_same_in_another_process_with_another_hash_seed():
    code = (
        "from fcos_cli.data.shapes.dataset import shapes_data; import hashlib;"
        "d = shapes_data('test', count=3, seed=5);"
        "print(hashlib.sha256(d.read(2).tobytes() + d.boxes.tobytes()).hexdigest(), end='')"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    data = shapes_data("test", count=3, seed=5)
    assert printed == {hashlib.sha256(data.read(2).tobytes() + data.boxes.tobytes()).hexdigest()}


def test_an_image_does_not_depend_on_the_others():
    few, many = shapes_data("val", count=4), shapes_data("val", count=9)
    assert np.array_equal(few.read(3), many.read(3))
    assert np.array_equal(few.boxes[few.rows(3)], many.boxes[many.rows(3)])
    chosen = many.subset([8, 3])
    assert np.array_equal(chosen.read(1), few.read(3))
    assert np.array_equal(chosen.boxes[chosen.rows(1)], few.boxes[few.rows(3)])


def test_splits_and_seeds_differ():
    images = [shapes_data(split, count=2, seed=seed).read(1) for split in SPLITS for seed in (0, 1)]
    assert len({digest(image) for image in images}) == len(images)


def test_columns_of_the_training_split(train):
    assert len(train) == SPLITS["train"] == 4000
    assert train.categories.ids == (1, 2, 3, 5, 6, 8, 11)
    assert train.categories.names[4] == "ring"
    assert train.sizes.min() == 144
    assert train.sizes.max() == 176
    assert train.sizes.dtype == np.int32
    assert train.labels.dtype == np.int32
    assert train.boxes.dtype == np.float64
    assert train.offsets[-1] == len(train.boxes) == len(train.labels) == len(train.areas) == len(train.box_ids)
    of_image = np.repeat(np.arange(len(train)), np.diff(train.offsets))
    assert (train.boxes >= 0).all()
    assert (train.boxes <= np.tile(train.sizes[of_image], 2)).all()
    sides = train.boxes[:, 2:] - train.boxes[:, :2]
    assert np.allclose(train.areas, sides.prod(axis=1))
    assert not train.crowd.any()


def test_shares_and_sizes(train):
    counts = np.diff(train.offsets)
    assert 0.04 < (counts == 0).mean() < 0.06
    assert counts.max() == 7
    longest = (train.boxes[:, 2:] - train.boxes[:, :2]).max(axis=1)
    assert 8 <= longest.min() < 9
    assert longest.max() > 140
    assert 0.02 < (longest < 16).mean() < 0.12
    assert 0.05 < (longest > 80).mean() < 0.2
    per_class = np.bincount(train.labels, minlength=len(SHAPES))
    assert per_class.min() > 0.9 * per_class.mean()


def test_laying_out_the_training_split_is_fast():
    best = min(timed() for _ in range(3))
    assert best < 1.0


def timed() -> float:
    start = time.process_time()
    shapes_data("train")
    return time.process_time() - start


def test_boxes_are_tight_around_what_is_painted(monkeypatch):
    """Each shape painted alone, without noise, against the same ground without it."""
    monkeypatch.setattr(shapes_draw, "NOISE", 0.0)
    layout = shapes_data("val", count=60).source.layout
    for row in range(len(layout.labels)):
        image = int(np.searchsorted(layout.offsets, row, side="right")) - 1
        offsets = np.zeros_like(layout.offsets)
        bare = shapes_draw.draw_image(replace(layout, offsets=offsets), image, (9, 9))
        offsets[image], offsets[image + 1] = row, row + 1
        painted = shapes_draw.draw_image(replace(layout, offsets=offsets), image, (9, 9))
        y, x = np.nonzero(np.abs(painted.astype(int) - bare).max(axis=2) > 1)
        found = np.array([x.min(), y.min(), x.max() + 1, y.max() + 1])
        outline = layout.outline(row)[0]
        width, height = layout.sizes[image]
        assert (found[:2] >= np.floor(layout.boxes[row, :2])).all()
        assert (found[2:] <= np.ceil(layout.boxes[row, 2:])).all()
        if (outline >= 0).all() and (outline <= [width, height]).all():
            assert np.abs(found - layout.boxes[row]).max() < 1.6
            exact = np.concatenate([outline.min(axis=0), outline.max(axis=0)])
            assert np.abs(exact - layout.boxes[row]).max() < 0.01


def test_painted_area_is_the_area_of_the_shape(monkeypatch):
    """Pillow's polygons take in their border; at this supersampling that is an eighth of a pixel at most."""
    layout = shapes_data("val", count=40).source.layout
    checked = 0
    for row in range(len(layout.labels)):
        outline, hole = layout.outline(row)
        low, high = np.floor(outline.min(axis=0)), np.ceil(outline.max(axis=0))
        size = tuple(int(v) for v in high - low)
        scale = 8 if max(size) <= 32 else 4
        curves = [shapes_draw._to_mask(points, low, scale) for points in (outline, hole) if points is not None]
        mask = shapes_draw._coverage(size, scale, curves)
        area = SHAPES[layout.labels[row]].area * abs(np.linalg.det(layout.affine[row]))
        edge = sum(np.hypot(*np.diff(c, axis=0, append=c[:1]).T).sum() for c in (outline, hole) if c is not None)
        assert abs(mask.sum() - area) < 0.13 * edge
        checked += 1
    assert checked > 100


def test_every_shape_stays_in_sight():
    """At least 40 % of its area is in the image and under no later shape."""
    layout = shapes_data("val", count=30).source.layout
    overlaps = 0
    for image in range(30):
        width, height = (int(side) for side in layout.sizes[image])
        rows = range(layout.offsets[image], layout.offsets[image + 1])
        masks = [covered(layout, row, width, height) for row in rows]
        for i, row in enumerate(rows):
            hidden = np.zeros_like(masks[i])
            for later in masks[i + 1 :]:
                hidden |= later
            area = SHAPES[layout.labels[row]].area * abs(np.linalg.det(layout.affine[row])) * 9
            assert (masks[i] & ~hidden).sum() / area > 0.4
            overlaps += bool((masks[i] & hidden).any())
    assert overlaps > 10


def test_grounds_have_texture_and_shapes_stand_out():
    data = shapes_data("val", count=60)
    for index in range(len(data)):
        image = data.read(index).astype(float)
        assert image.shape == (data.sizes[index, 1], data.sizes[index, 0], 3)
        assert image.std(axis=(0, 1)).max() > 3
        inside = np.zeros(image.shape[:2], dtype=bool)
        for x0, y0, x1, y1 in data.boxes[data.rows(index)].astype(int):
            inside[y0 : y1 + 1, x0 : x1 + 1] = True
        if not inside.any() or inside.all():
            continue
        ground = np.median(image[~inside], axis=0)
        for row in range(data.rows(index).start, data.rows(index).stop):
            x0, y0, x1, y1 = data.boxes[row].astype(int)
            part = np.abs(image[y0 : y1 + 1, x0 : x1 + 1] - ground).max(axis=2)
            assert np.quantile(part, 0.9) > 40


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"split": "minival"}, "train, val, test"),
        ({"count": 0}, "at least 1"),
        ({"seed": -1}, "0 or more"),
    ],
)
def test_wrong_arguments(arguments, words):
    with pytest.raises(DataError) as caught:
        shapes_data(**arguments)
    assert words in caught.value.hint
