"""Resizing: boxes against a painted one, ratios against the size rule by hand."""

import numpy as np

from fcos_cli.data.images import resize
from fcos_cli.data.sample import prepare

NO_BOXES = np.zeros((0, 4))


def test_resize_against_a_painted_box():
    image = np.zeros((300, 400, 3), dtype=np.uint8)
    image[90:210, 40:200] = 255
    done = prepare(image, np.array([[40, 90, 200, 210]]), 150, 400)
    assert done.image.shape == (150, 200, 3)
    assert done.boxes.tolist() == [[20, 45, 100, 105]]
    y, x = np.nonzero(done.image[..., 0] > 127)
    assert [x.min(), y.min(), x.max() + 1, y.max() + 1] == [20, 45, 100, 105]


def test_boxes_follow_the_two_rounded_ratios():
    # 640 x 427: the ratio of the long side is int(800 * 640 / 427) = 1199 over 640, not 800 over 427.
    done = prepare(np.zeros((427, 640, 3), dtype=np.uint8), np.array([[64.0, 42.7, 320.0, 427.0]]), 800, 1333)
    assert done.image.shape == (800, 1199, 3)
    assert done.ratios == (1199 / 640, 800 / 427)
    assert done.original_size == (640, 427)
    assert np.allclose(done.boxes, [[119.9, 80.0, 599.5, 800.0]])


def test_long_side_bounds_a_panorama():
    done = prepare(np.zeros((100, 400, 3), dtype=np.uint8), NO_BOXES, 800, 1333)
    # round(1333 * 100 / 400) = 333 and int(333 * 4) = 1332
    assert done.image.shape == (333, 1332, 3)


def test_boxes_are_cut_to_the_image():
    done = prepare(np.zeros((50, 60, 3), dtype=np.uint8), np.array([[-5.0, 10, 70, 45], [55, 55, 80, 90]]), 100, 400)
    assert done.boxes.tolist() == [[0, 20, 120, 90], [110, 100, 120, 100]]


def test_equal_sizes_are_not_touched():
    image = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    assert resize(image, 60, 40) is image
    assert prepare(image, NO_BOXES, 40, 60).image is image


def test_shrinking_averages():
    checks = (np.indices((80, 80)).sum(axis=0) % 2 * 255).astype(np.uint8)
    small = resize(np.repeat(checks[..., None], 3, axis=2), 20, 20)
    assert np.abs(small.astype(int) - 127).max() < 12
