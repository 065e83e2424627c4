"""Boxes on images."""

import numpy as np
import pytest
from PIL import Image

from fcos_cli.report.draw import Tile, colour_of, contact_sheet, draw_boxes, save_picture

NAMES = ["cat", "dog", "a class with a very long name"]
GRAY = np.full((200, 300, 3), 128, dtype=np.uint8)


def draw(box, label=0, **options):
    picture = draw_boxes(GRAY, np.array([box], dtype=float), np.array([label]), NAMES, **options)
    return np.asarray(picture).astype(int)


def test_colours_are_stable_and_distinct():
    colours = [colour_of(label) for label in range(20)]
    assert colours == [colour_of(label) for label in range(20)]
    gaps = [np.abs(np.subtract(a, b)).sum() for i, a in enumerate(colours) for b in colours[:i]]
    assert min(gaps) > 40
    assert len({colour_of(label) for label in range(80)}) == 80


def test_the_frame_lies_on_the_box_and_nothing_far_from_it_changes():
    pixels = draw((100, 80, 200, 160))
    frame = colour_of(0)
    assert tuple(pixels[120, 100]) == frame
    assert tuple(pixels[120, 199]) == frame
    assert tuple(pixels[159, 150]) == frame
    assert (pixels[100:140, 110:190] == 128).all()
    assert (pixels[165:] == 128).all()
    assert (pixels[:, :90] == 128).all()


def test_the_given_image_is_not_changed():
    before = GRAY.copy()
    draw((10, 10, 50, 50))
    assert (before == GRAY).all()


@pytest.mark.parametrize(
    "box", [(0, 0, 300, 200), (-5, -5, 400, 300), (295, 195, 300, 200), (50, 50, 50, 50), (60, 60, 60.2, 60.1)]
)
def test_boxes_at_the_edge_and_without_area(box):
    assert draw(box, 2, scores=np.array([0.5])).shape == GRAY.shape


def test_scores_names_and_truth_change_the_picture():
    plain = draw((100, 80, 200, 160))
    scored = draw((100, 80, 200, 160), scores=np.array([0.73]))
    assert (plain != scored).any()
    dashed = draw((100, 80, 200, 160), truth_boxes=np.array([[20, 20, 60, 60]]))
    assert (dashed[20, 20:60] == 255).all(axis=1).any()
    assert (dashed[20, 20:60] == 128).all(axis=1).any()


def test_the_best_name_stays_readable():
    """Two boxes at one place: the picture carries the better one's name where it stood alone."""
    box = [100, 80, 200, 160]
    alone = draw(box, 1, scores=np.array([0.9]))
    both = np.asarray(draw_boxes(GRAY, np.array([box, box]), np.array([0, 1]), NAMES, np.array([0.2, 0.9]))).astype(int)
    name = alone[60:79, 102:140]
    assert (name != 128).any()
    np.testing.assert_array_equal(both[60:79, 102:140], name)


@pytest.mark.parametrize("count", [1, 2, 5, 12])
def test_contact_sheet(count):
    rng = np.random.default_rng(0)
    tiles = []
    for index in range(count):
        height, width = rng.integers(20, 300, 2)
        boxes = np.array([[2, 2, width - 2, height - 2]], dtype=float)
        tiles.append(
            Tile(
                rng.integers(0, 255, (height, width, 3), dtype=np.uint8),
                boxes,
                np.array([index % 3]),
                np.array([0.5]),
                boxes if index % 2 else None,
                "an image with a title that is much too long for its tile " * 3,
            )
        )
    sheet = contact_sheet(tiles, NAMES, tile_size=160, title="AP 0.61")
    assert sheet.width <= 5 * 180
    assert sheet.height <= 5 * 220


def test_contact_sheet_enlarges_small_images():
    tile = Tile(np.zeros((10, 20, 3), dtype=np.uint8), np.zeros((0, 4)), np.zeros(0, int), np.zeros(0))
    pixels = np.asarray(contact_sheet([tile], NAMES, tile_size=200))
    assert (pixels == 0).all(axis=2).sum() == 200 * 100


def test_an_empty_sheet_is_refused():
    with pytest.raises(ValueError, match="at least one"):
        contact_sheet([], NAMES)


@pytest.mark.parametrize("name", ["a.png", "deep/er/b.jpg"])
def test_save_picture(tmp_path, name):
    save_picture(draw_boxes(GRAY, np.zeros((0, 4)), np.zeros(0, int), NAMES), tmp_path / name)
    with Image.open(tmp_path / name) as image:
        assert image.size == (300, 200)
