from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_cli.geometry.pyramid import build_pyramid
from fcos_cli.stats.boxes import Setting, network_boxes
from fcos_cli.stats.coverage import cover

FPN, P4 = build_pyramid([3, 4, 5, 6, 7]), build_pyramid([4])


@pytest.fixture(scope="module")
def val2017(shared_data):
    from fcos_cli.data.coco import read_coco

    return read_coco(shared_data / "coco_val2017_boxes.json")


@pytest.mark.parametrize(
    ("convention", "pyramid", "recall", "ambiguous", "cross_class", "boxes"),
    [
        ("paper", FPN, 98.40, 7.14, 3.75, 36334),
        ("paper", P4, 95.55, 23.16, 17.84, 36334),
        ("exact", FPN, 99.03, 7.43, 3.83, 36335),
        ("exact", P4, 96.54, 23.40, 18.01, 36335),
    ],
)
def test_the_papers_tables(val2017, convention, pyramid, recall, ambiguous, cross_class, boxes):
    coverage = cover(val2017, Setting(pyramid=pyramid, convention=convention))
    assert coverage.recall["images"] == 5000
    assert coverage.recall["boxes"] == boxes
    assert coverage.recall["bpr"] == pytest.approx(recall, abs=0.01)
    assert coverage.ambiguity["ambiguous_percent"] == pytest.approx(ambiguous, abs=0.01)
    assert coverage.ambiguity["cross_class_percent"] == pytest.approx(cross_class, abs=0.01)
    assert len(coverage.missed) == boxes - coverage.recall["recalled"]


def dense(data, setting):
    """Every location against every box by the plain formula in float32: boxes won [T, P], counts [P, 3]."""
    boxes = network_boxes(data, setting)
    labels = data.labels[boxes.rows]
    won = np.zeros((len(boxes.boxes), len(setting.pyramid.levels)), dtype=bool)
    totals = np.zeros((len(setting.pyramid.levels), 3), dtype=int)
    for image, (width, height) in enumerate(boxes.padded.tolist()):
        first, last = boxes.offsets[image : image + 2]
        if first == last:
            continue
        box, label = boxes.boxes[first:last], labels[first:last]
        area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1])
        for position, level in enumerate(setting.pyramid.levels):
            points = replace(setting.pyramid, levels=(level,)).locations(height, width)[:, None]
            sides = np.concatenate([points - box[:, :2], box[:, 2:] - points], axis=2)
            inside = sides.min(axis=2) > 0
            if setting.radius:
                reach = np.float32(setting.radius * level.stride)
                centre = (box[:, :2] + box[:, 2:]) * np.float32(0.5)
                low, high = np.maximum(centre - reach, box[:, :2]), np.minimum(centre + reach, box[:, 2:])
                inside &= ((points > low) & (points < high)).all(axis=2)
            far = sides.max(axis=2)
            if setting.inclusive:
                inside &= (far >= level.lower) & (far <= level.upper)
            else:
                inside &= (far > level.lower) & (far < level.upper)
            count = inside.sum(axis=1)
            smallest = np.where(inside, area, np.inf).argmin(axis=1)[count > 0]
            won[first + smallest, position] = True
            lowest = np.where(inside, label, 10**6).min(axis=1)
            highest = np.where(inside, label, -1).max(axis=1)
            totals[position] += (count > 0).sum(), (count > 1).sum(), ((count > 1) & (lowest < highest)).sum()
    return won, totals


side = st.integers(1, 90)
box = st.tuples(st.integers(0, 2), st.integers(-5, 90), st.integers(-5, 90), side, side).map(
    lambda b: (b[0], b[1], b[2], b[1] + b[3], b[2] + b[4])
)
image = st.tuples(st.integers(60, 96), st.integers(60, 96), st.lists(box, max_size=12))


@settings(max_examples=60, deadline=None)
@given(
    images=st.lists(image, min_size=1, max_size=4),
    first=st.integers(2, 5),
    levels=st.integers(1, 3),
    short=st.sampled_from([64, 128, 173]),
    radius=st.sampled_from([0.0, 0.5, 1.5]),
    inclusive=st.booleans(),
    convention=st.sampled_from(["exact", "paper"]),
    origin=st.sampled_from(["half_stride", "corner"]),
)
def test_the_painter_agrees_with_the_plain_formula(
    make_data, images, first, levels, short, radius, inclusive, convention, origin
):
    data = make_data([(96, 96, [(0, 8, 8, 72, 72), (1, 8, 8, 72, 72)]), *images])
    indices = list(range(first, first + levels))
    setting = Setting(build_pyramid(indices, origin=origin), short, 2 * short, radius, inclusive, convention)
    coverage = cover(data, setting)
    won, totals = dense(data, setting)
    np.testing.assert_array_equal(coverage.recalled, won.any(axis=1))
    assert [row["recalled"] for row in coverage.recall["by_level"]] == won.sum(axis=0).tolist()
    by_level = coverage.ambiguity["by_level"]
    found = [[row["positives"], row["ambiguous"], row["cross_class"]] for row in by_level]
    assert found == totals.tolist()
    sums = totals.sum(axis=0).tolist()
    assert [coverage.ambiguity[key] for key in ("positives", "ambiguous", "cross_class")] == sums


def test_three_boxes_of_which_only_the_middle_differs(make_data):
    """Nested boxes of classes 0, 1, 0: the labels at the ends of the painting are the same, and yet they collide."""
    boxes = [(0, 0, 0, 60, 60), (1, 0, 0, 56, 56), (0, 0, 0, 52, 52)]
    ambiguity = cover(make_data([(64, 64, boxes)]), Setting(build_pyramid([3]), 64, 64)).ambiguity
    # Locations 4, 12, ... lie below 60, 56, 52 seven, seven and six times along an axis.
    assert (ambiguity["positives"], ambiguity["ambiguous"], ambiguity["cross_class"]) == (49, 49, 49)
    same = [(2, *box[1:]) for box in boxes]
    assert cover(make_data([(64, 64, same)]), Setting(build_pyramid([3]), 64, 64)).ambiguity["cross_class"] == 0


def test_shares_add_up(make_data):
    """A box between the locations of its level, one hidden below a smaller one, and two that are found."""
    images = [
        (64, 64, [(0, 13, 13, 19, 19), (1, 2, 2, 6, 6), (2, 1, 1, 7, 7)]),
        (64, 64, []),
        (64, 64, [(1, 0, 0, 64, 64)]),
    ]
    data = make_data(images)
    coverage = cover(data, Setting(build_pyramid([3]), 64, 64))
    assert coverage.recalled.tolist() == [False, True, False, True]
    assert coverage.missed.tolist() == [0, 2]
    recall = coverage.recall
    assert (recall["images"], recall["boxes"], recall["recalled"], recall["bpr"]) == (3, 4, 2, 50.0)
    assert recall["by_size"] == [
        {"name": "small", "boxes": 3, "recalled": 1, "bpr": 100 / 3},
        {"name": "medium", "boxes": 1, "recalled": 1, "bpr": 100.0},
        {"name": "large", "boxes": 0, "recalled": 0, "bpr": None},
    ]
    assert [(row["boxes"], row["recalled"]) for row in recall["by_class"]] == [(1, 0), (2, 2), (1, 0)]
    assert sum(row["boxes"] for row in recall["by_side"]) == 4
    assert recall["by_side"][0] == {"lower": 0, "upper": 8, "boxes": 3, "recalled": 1, "bpr": 100 / 3}
    assert recall["by_level"] == [
        {"name": "P3", "stride": 8, "lower": 0.0, "upper": None, "recalled": 2, "percent": 50.0, "positives": 65}
    ]


def test_no_location_at_all_is_no_percent(make_data):
    ambiguity = cover(make_data([(64, 64, [(0, 13, 13, 19, 19)])]), Setting(build_pyramid([3]), 64, 64)).ambiguity
    assert ambiguity["positives"] == 0
    assert ambiguity["ambiguous_percent"] is None


def test_many_boxes_long_images_and_progress(make_data):
    rng = np.random.default_rng(0)
    crowdy = [(0, x, y, x + 9, y + 9) for x, y in rng.integers(0, 500, (2000, 2)).tolist()]
    done = []
    images = [(510, 510, crowdy), (1, 10000, [(1, 0, 0, 1, 10000)])] + [(8, 8, [])] * 700
    coverage = cover(make_data(images), Setting(), done.append)
    assert sum(done) == 702
    assert coverage.recall["boxes"] == 2001


def test_the_order_of_images_and_what_is_around_them_does_not_matter(make_data):
    rng = np.random.default_rng(1)
    images = []
    for _ in range(12):
        corners = rng.integers(0, 80, (6, 2))
        rows = np.concatenate([rng.integers(0, 3, (6, 1)), corners, corners + rng.integers(1, 60, (6, 2))], axis=1)
        images.append((int(rng.integers(60, 140)), int(rng.integers(60, 140)), [tuple(r) for r in rows.tolist()]))
    setting = Setting(short_side=200, long_side=400)
    whole = cover(make_data(images), setting)
    single = [cover(make_data([one]), setting) for one in images]
    for key in ("positives", "ambiguous", "cross_class"):
        assert whole.ambiguity[key] == sum(one.ambiguity[key] for one in single)
    assert whole.recalled.tolist() == np.concatenate([one.recalled for one in single]).tolist()
    backwards = cover(make_data(images[::-1]), setting)
    assert backwards.ambiguity == whole.ambiguity
    assert backwards.recall == whole.recall
