from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_cli.geometry.pyramid import build_pyramid
from fcos_cli.method.fcos.tables import FCOSAssignConfig
from fcos_cli.stats import parallel
from fcos_cli.stats.boxes import Setting, network_boxes
from fcos_cli.stats.coverage import cover
from fcos_kernels import reference

FPN, P4 = build_pyramid([3, 4, 5, 6, 7]), build_pyramid([4])


@pytest.fixture(scope="module")
def val2017(shared_data):
    from fcos_cli.data.formats.coco import read_coco

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


class Plain(NamedTuple):
    """Counts as `Painting` has them, location by location from the reference op."""

    won: np.ndarray
    claimed: np.ndarray
    totals: np.ndarray
    pairs: dict


def by_definition(data, setting):
    """One image and one box at a time through `fcos_kernels.reference.assign`."""
    boxes = network_boxes(data, setting)
    labels, levels = data.labels[boxes.rows], setting.pyramid.levels
    plain = Plain(
        *(np.zeros((len(labels), len(levels)), int) for _ in range(2)), np.zeros((len(levels), 3), int), Counter()
    )
    for image, (width, height) in enumerate(boxes.padded.tolist()):
        first, last = boxes.offsets[image : image + 2].tolist()
        own = torch.from_numpy(boxes.boxes[first:last])
        grids = setting.pyramid.grids(height, width)
        how = {
            "grids": grids,
            "strides": setting.pyramid.strides,
            "starts": setting.pyramid.starts,
            "ranges": setting.pyramid.ranges,
            "radius": setting.assign.center_sampling,
            "inclusive": setting.assign.range_ends == "inclusive",
        }
        index, _ = reference.assign(own, torch.tensor([0, len(own)]), **how)
        alone = [reference.assign(own[i : i + 1], torch.tensor([0, 1]), **how)[0][0] >= 0 for i in range(len(own))]
        level_of = np.repeat(np.arange(len(levels)), [rows * columns for rows, columns in grids])
        for location, (level, winner) in enumerate(zip(level_of.tolist(), index[0].tolist(), strict=True)):
            rivals = [i for i in range(len(own)) if alone[i][location]]
            plain.claimed[[first + i for i in rivals], level] += 1
            if winner < 0:
                assert not rivals
                continue
            plain.won[first + winner, level] += 1
            losing = {int(labels[first + i]) for i in rivals if i != winner}
            winning = int(labels[first + winner])
            plain.totals[level] += (1, len(rivals) > 1, losing - {winning} != set())
            plain.pairs.update((winning, label) for label in losing)
    return plain


side = st.integers(1, 90)
box = st.tuples(st.integers(0, 2), st.integers(-5, 90), st.integers(-5, 90), side, side).map(
    lambda b: (b[0], b[1], b[2], b[1] + b[3], b[2] + b[4])
)
image = st.tuples(st.integers(60, 96), st.integers(60, 96), st.lists(box, max_size=6))


@settings(max_examples=40, deadline=None)
@given(
    images=st.lists(image, max_size=2),
    first=st.integers(2, 5),
    levels=st.integers(1, 3),
    short=st.sampled_from([32, 45, 64]),
    radius=st.sampled_from([0.0, 0.5, 1.5]),
    inclusive=st.booleans(),
    convention=st.sampled_from(["exact", "paper"]),
    origin=st.sampled_from(["half_stride", "corner"]),
)
def test_the_painter_agrees_with_the_reference_op_at_every_location(
    make_data, images, first, levels, short, radius, inclusive, convention, origin
):
    data = make_data([(96, 96, [(0, 8, 8, 72, 72), (1, 8, 8, 72, 72)]), *images])
    indices = list(range(first, first + levels))
    assign = FCOSAssignConfig(center_sampling=radius, range_ends="inclusive" if inclusive else "exclusive")
    setting = Setting(build_pyramid(indices, origin=origin), short, 2 * short, assign, convention)
    coverage = cover(data, setting)
    plain = by_definition(data, setting)
    np.testing.assert_array_equal(coverage.won, plain.won)
    np.testing.assert_array_equal(coverage.painting.claimed, plain.claimed)
    np.testing.assert_array_equal(coverage.recalled, plain.won.any(axis=1))
    by_level = coverage.ambiguity["by_level"]
    found = [[row["positives"], row["ambiguous"], row["cross_class"]] for row in by_level]
    assert found == plain.totals.tolist()
    assert {(winner, loser): count for winner, loser, count in coverage.painting.pairs.tolist()} == plain.pairs
    sums = plain.totals.sum(axis=0).tolist()
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
    coverage = cover(make_data(images), Setting(), step=done.append)
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


def test_workers_change_nothing(make_data, monkeypatch):
    rng = np.random.default_rng(2)
    monkeypatch.setattr(parallel, "IMAGES_PER_PART", 3)
    images = []
    for _ in range(14):
        corners = rng.integers(0, 80, (5, 2))
        rows = np.concatenate([rng.integers(0, 3, (5, 1)), corners, corners + rng.integers(1, 60, (5, 2))], axis=1)
        images.append((100, int(rng.integers(60, 140)), [tuple(r) for r in rows.tolist()]))
    data, setting = make_data(images), Setting(short_side=200, long_side=400)
    steps = []
    alone = cover(data, setting, workers=1)
    several = cover(data, setting, workers=2, step=steps.append)
    assert steps == [3, 3, 3, 3, 2]
    assert several.ambiguity == alone.ambiguity
    assert several.recall == alone.recall
    np.testing.assert_array_equal(several.won, alone.won)
    np.testing.assert_array_equal(several.painting.claimed, alone.painting.claimed)


def test_pairs_are_of_the_winner_and_each_losing_class(make_data):
    """At 6 x 6 locations class 2 lies in front of 1 and 0; around them a ring of 7 x 7 where 1 lies in front of 0."""
    boxes = [(0, 0, 0, 60, 60), (1, 0, 0, 58, 58), (2, 0, 0, 50, 50), (2, 0, 0, 51, 51)]
    ambiguity = cover(make_data([(64, 64, boxes)]), Setting(build_pyramid([3]), 64, 64)).ambiguity
    found = {(row["winner"], row["loser"]): row["locations"] for row in ambiguity["pairs"]}
    name = "class {}".format
    assert found == {
        (name(2), name(0)): 36,
        (name(2), name(1)): 36,
        (name(2), name(2)): 36,
        (name(1), name(0)): 13,
    }
    assert ambiguity["pairs"][0]["percent_of_ambiguous"] == pytest.approx(100 * 36 / 49)
