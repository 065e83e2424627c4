"""`fcos data show`: which boxes are in the picture, and where."""

import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from fcos_cli.commands.data import app
from fcos_cli.commands.data.tiles import box_tile, class_label, image_tile, random_images, shown_rows, smallest_boxes
from fcos_cli.data.datasets import open_data
from fcos_cli.errors import DataError, UsageError
from fcos_cli.report import draw

run = CliRunner()


@pytest.fixture
def folder(tmp_path):
    """Three images: one with two boxes that overlap, one with a small box at the corner, one with a crowd region."""
    boxes = [(1, 1, [10, 10, 60, 60]), (1, 2, [20, 20, 60, 60]), (2, 2, [155, 110, 5, 6]), (3, 1, [0, 0, 3, 3])]
    annotations = [
        {"id": i + 1, "image_id": image, "category_id": category, "bbox": box, "iscrowd": int(image == 3)}
        for i, (image, category, box) in enumerate(boxes)
    ]
    images = [{"id": i, "file_name": f"{i}.png", "width": 160, "height": 120} for i in (1, 2, 3)]
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "Dog"}],
    }
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    for i in (1, 2, 3):
        pixels = np.full((120, 160, 3), 40 * i, np.uint8)
        pixels[110:116, 155:160] = 250
        Image.fromarray(pixels).save(tmp_path / f"{i}.png")
    return tmp_path


@pytest.fixture
def shown(folder, monkeypatch):
    """Runs the verb and gives the tiles that were drawn."""
    tiles = []
    original = draw.contact_sheet
    monkeypatch.setattr(draw, "contact_sheet", lambda drawn, *a, **k: tiles.extend(drawn) or original(drawn, *a, **k))

    def show(*options):
        tiles.clear()
        (folder / "out.png").unlink(missing_ok=True)
        result = run.invoke(app, ["show", str(folder), "--out", str(folder / "out.png"), *options])
        assert result.exit_code == 0, result.exception
        assert Image.open(folder / "out.png").size[0] > 300
        return list(tiles)

    return show


def test_all_boxes_and_those_of_a_class(shown):
    assert sorted(len(tile.boxes) for tile in shown()) == [1, 1, 2]
    tiles = shown("--class", "dog")
    assert sorted(tile.title for tile in tiles) == ["1.png", "2.png"]
    assert [tile.labels.tolist() for tile in tiles] == [[1], [1]]
    assert len(shown("--count", "2")) == 2


def test_the_smallest_first_and_where_it_is(shown):
    tiles = shown("--smallest")
    assert [tile.title for tile in tiles] == ["5 x 6, 2.png", "60 x 60, 1.png", "60 x 60, 1.png"]
    x0, y0, x1, y1 = tiles[0].boxes[0].astype(int)
    assert (tiles[0].pixels[y0:y1, x0:x1] == 250).all()
    assert (tiles[0].pixels == 250).sum() == 3 * (x1 - x0) * (y1 - y0)
    assert tiles[0].pixels.shape[0] < 120


def test_ambiguous_images_are_those_whose_boxes_share_locations(shown):
    (tile,) = shown("--ambiguous")
    assert tile.title.endswith("locations taken, 1.png")


def test_crowd_is_called_ignored(folder):
    data = open_data(str(folder))
    assert image_tile(data, 2, shown_rows(data)).labels.tolist() == [2]
    assert smallest_boxes(data, shown_rows(data), 9) == [2, 0, 1]


def test_a_box_at_any_place_stays_where_it_was(folder):
    data = open_data(str(folder))
    for row, index in ((0, 0), (2, 1)):
        tile = box_tile(data, row, np.array([row]))
        x0, y0, x1, y1 = tile.boxes[0].astype(int)
        X0, Y0, X1, Y1 = data.boxes[row].astype(int)
        assert (tile.pixels[y0:y1, x0:x1] == data.read(index)[Y0:Y1, X0:X1]).all()


def test_another_seed_shows_others(folder):
    data = open_data("shapes", "val")
    rows = shown_rows(data)
    assert random_images(data, rows, 5, 1) != random_images(data, rows, 5, 2)
    assert random_images(data, rows, 5, 1) == random_images(data, rows, 5, 1)


def test_what_cannot_be_shown(folder):
    (folder / "there.png").touch()
    with pytest.raises(DataError, match="no class bird"):
        class_label(open_data(str(folder)), "bird")
    for out, options in (("there.png", []), ("x.gif", []), ("x.png", ["--smallest", "--ambiguous"])):
        result = run.invoke(app, ["show", str(folder), "--out", str(folder / out), *options])
        assert isinstance(result.exception, UsageError)
