import numpy as np
import pytest

from fcos_cli.data.findings import Finding, Kind
from fcos_cli.errors import DataError
from fcos_cli.geometry.pyramid import build_pyramid
from fcos_cli.method.fcos.tables import FCOSAssignConfig
from fcos_cli.recipe.schema import Recipe
from fcos_cli.stats.boxes import CROWD, NO_AREA, NO_PIXELS, NO_SIZE, NOT_FINITE, OUTSIDE, Setting, network_boxes

SETTING = Setting()
PAPER = Setting(convention="paper")


def test_boxes_follow_the_two_rounded_ratios(make_data):
    """640x427 becomes 1199x800: int(800 * 640 / 427) = 1199."""
    data = make_data([(640, 427, [(0, 10, 20, 110, 70)])])
    found = network_boxes(data, SETTING)
    x, y = 1199 / 640, 800 / 427
    np.testing.assert_allclose(found.boxes, [[10 * x, 20 * y, 110 * x, 70 * y]], rtol=1e-6)
    assert found.boxes.dtype == np.float32
    assert found.padded.tolist() == [[1216, 800]]
    paper = network_boxes(data, PAPER)
    np.testing.assert_allclose(paper.boxes, [[10 * x, 20 * y, 109 * x, 69 * y]], rtol=1e-6)


def test_what_cannot_be_learnt_is_left_out_and_counted(make_data):
    nan = float("nan")
    boxes = [
        (0, 10, 10, 50, 50),
        (1, 10, 10, 90, 90, True),
        (0, 30, 30, 30, 60),
        (0, nan, 0, 20, 20),
        (0, 700, 10, 800, 50),
        (2, 40, 40, 41, 90),
    ]
    lost = (Finding(Kind(NO_AREA, boxes=True), 2),)
    data = make_data([(640, 480, boxes), (0, 0, [(0, 1, 1, 5, 5)]), (640, 480, [])], findings=lost)
    found = network_boxes(data, SETTING)
    assert found.rows.tolist() == [0, 5]
    assert found.offsets.tolist() == [0, 2, 2, 2]
    assert found.dropped == {NO_AREA: 3, CROWD: 1, NOT_FINITE: 1, NO_SIZE: 1, OUTSIDE: 1}
    paper = network_boxes(data, PAPER)
    assert paper.rows.tolist() == [0]
    assert paper.dropped == {NO_AREA: 2, CROWD: 1, NOT_FINITE: 1, NO_SIZE: 1, OUTSIDE: 1, NO_PIXELS: 2}


def test_boxes_are_cut_at_the_border(make_data):
    data = make_data([(800, 800, [(0, -30, 700, 100, 900)])])
    assert network_boxes(data, SETTING).boxes.tolist() == [[0, 700, 100, 800]]
    assert network_boxes(data, PAPER).boxes.tolist() == [[0, 700, 99, 799]]


def test_nothing_left_says_why(make_data):
    crowds = make_data([(64, 64, [(0, 0, 0, 9, 9, True)] * 3)])
    with pytest.raises(DataError, match=r"no boxes.* in its 1 images; left out: 3 crowd regions"):
        network_boxes(crowds, SETTING)
    for images in ([], [(64, 64, [])]):
        with pytest.raises(DataError, match="no boxes") as caught:
            network_boxes(make_data(images), SETTING)
        assert "--split" in caught.value.hint
    with pytest.raises(DataError, match="has no annotations"):
        network_boxes(make_data([(64, 64, [])], annotated=False), SETTING)


def test_setting_of_a_recipe():
    recipe = Recipe.model_validate(
        {
            "model": {"pyramid": {"levels": [2, 3], "ranges": [[0, 40], [40, float("inf")]], "locations": "corner"}},
            "assign": {"center_sampling": 1.5, "range_ends": "exclusive"},
            "data": {"short_side": [320, 400], "long_side": 700},
            "test": {"short_side": 360, "long_side": 640},
        }
    )
    pyramid = build_pyramid([2, 3], [(0, 40), (40, float("inf"))], "corner")
    assign = FCOSAssignConfig(center_sampling=1.5, range_ends="exclusive")
    assert Setting.of_recipe(recipe) == Setting(pyramid, 400, 700, assign)
    assert Setting.of_test(recipe) == Setting(pyramid, 360, 640, assign)
