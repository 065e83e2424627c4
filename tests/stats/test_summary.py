import pytest

from fcos_cli.geometry.pyramid import build_pyramid
from fcos_cli.stats.boxes import Setting
from fcos_cli.stats.coverage import cover
from fcos_cli.stats.summary import summarize

SETTING = Setting(build_pyramid([3, 4], [(0, 32), (32, 64)]), 64, 64)


@pytest.fixture
def summary(make_data):
    """Two images with boxes, one without, and one with nothing but a crowd."""
    images = [
        (64, 64, [(0, 0, 0, 16, 16), (1, 0, 0, 64, 32), (0, 13, 13, 19, 19)]),
        (64, 64, []),
        (64, 64, [(0, 0, 0, 64, 64, True)]),
        (64, 64, [(0, 0, 0, 20, 20)]),
    ]
    data = make_data(images)
    return summarize(data, cover(data, SETTING))


def test_counts(summary):
    assert (summary["images"], summary["empty_images"], summary["boxes"]) == (4, 2, 4)
    assert summary["boxes_per_image"]["mean"] == 1
    assert summary["boxes_per_image"]["max"] == 3
    histogram = {row["lower"]: row["images"] for row in summary["images_by_boxes"] if row["images"]}
    assert histogram == {0: 2, 1: 1, 3: 1}


def test_sizes_and_shapes(summary):
    assert (summary["side"]["min"], summary["side"]["max"]) == (6, pytest.approx((64 * 32) ** 0.5))
    assert summary["network_side"] == pytest.approx(summary["side"])
    assert (summary["aspect"]["min"], summary["aspect"]["median"], summary["aspect"]["max"]) == (1, 1, 2)
    assert {row["lower"]: row["boxes"] for row in summary["by_aspect"] if row["boxes"]} == {0.8: 3, 2: 1}
    assert [(row["name"], row["boxes"], row["percent"]) for row in summary["by_size"]] == [
        ("small", 3, 75.0),
        ("medium", 1, 25.0),
        ("large", 0, 0.0),
    ]


def test_classes(summary):
    rows = {row["name"]: row for row in summary["by_class"]}
    assert (rows["class 0"]["boxes"], rows["class 0"]["images"]) == (3, 2)
    assert (rows["class 1"]["boxes"], rows["class 1"]["images"]) == (1, 1)
    assert (rows["class 2"]["boxes"], rows["class 2"]["positives_per_box"]) == (0, None)


def test_positives(summary):
    """P3, up to 32: 16 x 16 has 2 x 2, 20 x 20 has 2 x 2 (20 is on its edge), 64 x 32 none but its middle columns.

    P4, from 32: 64 x 32 has 4 x 2. The locations of 64 x 32 at most 32 from both sides: none of P3's (28: 36 to go).
    """
    by_level = {row["name"]: row for row in summary["by_level"]}
    assert (by_level["P3"]["boxes"], by_level["P3"]["positives"]) == (2, 8)
    assert (by_level["P4"]["boxes"], by_level["P4"]["positives"]) == (1, 8)
    assert by_level["P4"]["positives_per_box"] == 8
    assert summary["positives_per_box"]["mean"] == 4
    assert {row["lower"]: row["boxes"] for row in summary["by_positives"] if row["boxes"]} == {0: 1, 2: 2, 5: 1}
