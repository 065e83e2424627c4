"""Where detections come from, against the painter at every cell, and with a detector from its images to its trace."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_cli.errors import DataError
from fcos_cli.evaluation.results import load_located_results
from fcos_cli.geometry.pyramid import build_pyramid
from fcos_cli.method.fcos.tables import FCOSAssignConfig
from fcos_cli.stats import detections, parallel
from fcos_cli.stats.boxes import Setting, network_boxes
from fcos_cli.stats.detections import count_candidates, trace
from fcos_kernels.assign.paint import paint

P3 = Setting(build_pyramid([3]), 64, 64)
CATEGORY = 10


def detect(image, level, x, y, box=(0, 0, 64, 64)):
    """A detection of the first class: its row of results, its level, its location."""
    return [100 + image, *box, 0.5, CATEGORY], level, [x, y]


def traced(data, setting, found, step=None):
    results, level, location = zip(*found, strict=True) if found else ([], [], [])
    results = np.array(results, dtype=np.float64).reshape(-1, 7)
    location = np.array(location, dtype=np.int64).reshape(-1, 2)
    return trace(data, results, np.array(level, dtype=np.int64), location, setting, step)


def cells(boxes, setting):
    """Every cell of every padded image: (image, position of the level) [K] each, location [K, 2]."""
    images, positions, locations = [], [], []
    for image, (width, height) in enumerate(boxes.padded.tolist()):
        for position, level in enumerate(setting.pyramid.levels):
            points = replace(setting.pyramid, levels=(level,)).locations(height, width).astype(np.int64)
            images += [image] * len(points)
            positions += [position] * len(points)
            locations.append(points)
    return np.array(images), np.array(positions), np.concatenate(locations)


def painted(boxes, labels, setting):
    """Boxes that each cell may have, and their classes, counted by the painter, in the order of `cells`."""
    counts, classes = [], []
    for image, (width, height) in enumerate(boxes.padded.tolist()):
        rows = slice(*boxes.offsets[image : image + 2])
        mine, theirs = boxes.boxes[rows], labels[rows]
        grids = setting.pyramid.grids(height, width)
        counts.append(paint_counts(mine, grids, setting))
        kinds = [paint_counts(mine[theirs == label], grids, setting) > 0 for label in np.unique(labels)]
        classes.append(np.sum(kinds, axis=0))
    return np.concatenate(counts), np.concatenate(classes)


def paint_counts(boxes, grids, setting):
    _, counts = paint(
        boxes,
        np.array([0, len(boxes)]),
        grids=grids,
        strides=setting.pyramid.strides,
        starts=setting.pyramid.starts,
        ranges=setting.pyramid.ranges,
        radius=setting.assign.center_sampling,
        inclusive=setting.assign.range_ends == "inclusive",
        count_candidates=True,
    )
    return counts[0]


coordinate = st.one_of(st.integers(-5, 90), st.floats(-5, 90, width=32))
side = st.one_of(st.integers(1, 90), st.floats(0.5, 90, width=32))
box = st.tuples(st.integers(0, 2), coordinate, coordinate, side, side).map(
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
    seed=st.integers(0, 9),
)
def test_every_cell_agrees_with_the_painter(
    make_data, images, first, levels, short, radius, inclusive, convention, origin, seed
):
    data = make_data([(96, 96, [(0, 8, 8, 72, 72), (1, 8, 8, 72, 72)]), (64, 90, []), *images])
    pyramid = build_pyramid(list(range(first, first + levels)), origin=origin)
    assign = FCOSAssignConfig(center_sampling=radius, range_ends="inclusive" if inclusive else "exclusive")
    setting = Setting(pyramid, short, 2 * short, assign, convention)
    boxes = network_boxes(data, setting)
    labels = data.labels[boxes.rows]
    count, kinds = painted(boxes, labels, setting)
    of, position, location = cells(boxes, setting)
    rng = np.random.default_rng(seed)
    # In any order, some locations several times and others never, in parts that end anywhere.
    drawn = rng.integers(0, len(of), len(of))
    done = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parallel, "IMAGES_PER_PART", int(rng.integers(1, 4)))
        found, mixed = count_candidates(
            boxes, labels, of[drawn], position[drawn], location[drawn], setting, done.append
        )
    np.testing.assert_array_equal(found, count[drawn])
    np.testing.assert_array_equal(mixed, kinds[drawn] > 1)
    assert sum(done) == len(drawn)

    whole = np.zeros((len(of), 7))
    whole[:, 0], whole[:, 3:5], whole[:, 6] = data.image_ids[of], data.sizes[of], CATEGORY
    figures = trace(data, whole, position + first, location, setting)
    assert figures["positive"] == (count > 0).sum()
    assert figures["ambiguous"] == (count > 1).sum()
    assert figures["cross_class"] == (kinds > 1).sum()
    for row, number in zip(figures["by_level"], range(levels), strict=True):
        here = position == number
        assert row["detections"] == here.sum()
        assert row["positive"] == (count[here] > 0).sum()
        assert row["ambiguous"] == (count[here] > 1).sum()
        assert row["cross_class"] == (kinds[here] > 1).sum()


def test_figures_known_by_hand(make_data):
    """Boxes of classes 0 and 1 overlap on the left, two of class 2 lie upon each other on the right."""
    image = (64, 64, [(0, 0, 0, 20, 40), (1, 10, 0, 30, 40), (2, 40, 0, 64, 64), (2, 40, 0, 64, 32)])
    data = make_data([(64, 64, [(0, 0, 0, 64, 64)]), image, (64, 64, [])])
    found = [
        detect(1, 3, 12, 4),  # of the boxes 0 and 1
        detect(1, 3, 12, 4),  # once more
        detect(1, 3, 44, 4),  # of both of class 2
        detect(1, 3, 44, 44),  # of one of class 2
        detect(1, 3, 36, 60),  # of none
        detect(0, 3, 12, 4),  # of the other image
        detect(2, 3, 12, 4),  # of an image without boxes
        detect(1, 3, 1204, 68),  # in the padding of its batch
    ]
    figures = {
        "detections": 8,
        "positive": 5,
        "positive_percent": 62.5,
        "ambiguous": 3,
        "ambiguous_percent": 37.5,
        "cross_class": 2,
        "cross_class_percent": 25.0,
    }
    level = {"name": "P3", "stride": 8, "lower": 0.0, "upper": None, "percent": 100.0}
    traced_once = traced(data, P3, found)
    assert json.loads(json.dumps(traced_once)) == {**figures, "by_level": [{**level, **figures}]}
    assert traced(data.subset([2, 1, 0]), P3, found[::-1]) == traced_once


def test_ranges_and_centres_leave_boxes_out(make_data):
    """At (20, 20) and (24, 24) a box of side 40 is P3's; one of side 70, of another class, is P4's alone."""
    data = make_data([(128, 128, [(0, 0, 0, 40, 40), (1, 0, 0, 70, 70)])])
    setting = Setting(build_pyramid([3, 4], [(0, 32), (32, 256)]), 128, 128)
    whole = (0, 0, 128, 128)
    found = [detect(0, 3, 20, 20, whole), detect(0, 4, 24, 24, whole), detect(0, 4, 8, 8, whole)]
    rows = traced(data, setting, found)["by_level"]
    # At (8, 8) the sides of both boxes are 32 and 62 away: 32 is within P4's range only if that includes its ends.
    assert [(row["positive"], row["cross_class"]) for row in rows] == [(1, 0), (2, 1)]
    rows = traced(data, replace(setting, assign=FCOSAssignConfig(range_ends="exclusive")), found)["by_level"]
    assert [(row["positive"], row["cross_class"]) for row in rows] == [(1, 0), (2, 0)]
    rows = traced(data, replace(setting, assign=FCOSAssignConfig(center_sampling=0.5)), found)["by_level"]
    assert [(row["positive"], row["cross_class"]) for row in rows] == [(1, 0), (0, 0)]


def test_of_three_boxes_only_the_second_differs(make_data):
    data = make_data([(64, 64, [(0, 0, 0, 60, 60), (1, 0, 0, 56, 56), (0, 0, 0, 52, 52)])])
    assert traced(data, P3, [detect(0, 3, 4, 4), detect(0, 3, 60, 60)])["cross_class"] == 1


def test_nothing_is_no_percent(make_data):
    figures = traced(make_data([(64, 64, [(0, 0, 0, 9, 9)])]), P3, [])
    assert (figures["detections"], figures["ambiguous_percent"], figures["positive_percent"]) == (0, None, None)
    assert figures["by_level"][0]["percent"] is None


DATA = [(64, 64, [(0, 8, 8, 40, 40), (1, 8, 8, 40, 40)])]


@pytest.mark.parametrize(
    ("found", "message", "hint"),
    [
        (detect(7, 3, 4, 4), "none of the 1 image ids in the predictions belongs to test set", "--split"),
        (detect(0, 5, 16, 16), "1 of 1 detections come from P5, but the levels are P3", "--recipe"),
        (detect(0, 2, 6, 6), "come from P2", "--recipe"),
        (detect(0, 3, 8, 4), r"the first is \[8, 4\] on P3, where x and y are 4 \+ 8 i", "--recipe"),
        (detect(0, 3, 4, -4), "do not exist", "--recipe"),
        (detect(0, 3, 28, 28, (30, 20, 10, 10)), "1 of 1 detections do not contain their own location", "--recipe"),
    ],
)
def test_predictions_of_something_else(make_data, found, message, hint):
    with pytest.raises(DataError, match=message) as caught:
        traced(make_data(DATA), P3, [found])
    assert hint in caught.value.hint


def test_no_boxes(make_data):
    with pytest.raises(DataError, match="no boxes"):
        traced(make_data([(64, 64, [])]), P3, [detect(0, 3, 4, 4)])


def test_a_few_boxes_may_lie_beside_their_locations(make_data):
    data = make_data(DATA)
    fine, stray = detect(0, 3, 28, 28), detect(0, 3, 28, 28, (30, 20, 10, 10))
    assert traced(data, P3, [fine] * 19 + [stray])["detections"] == 20
    with pytest.raises(DataError, match="2 of 39 detections do not contain"):
        traced(data, P3, [fine] * 37 + [stray] * 2)


def test_rounding_and_borders_are_no_other_size(make_data):
    """Edges a pixel off, at twice the size; a box at the border, for a location in the padding."""
    data = make_data([(64, 64, DATA[0][2]), (0, 0, [])])
    setting = Setting(build_pyramid([3]), 128, 128)
    found = [
        detect(0, 3, 60, 60, (30.5, 10, 10, 30)),
        detect(0, 3, 60, 60, (10, 10, 19.499, 30)),
        detect(0, 3, 140, 60, (50, 20, 14, 30)),
        detect(1, 3, 60, 60, (1000, 20, 14, 30)),  # nobody knows the size of this image
    ]
    assert traced(data, setting, found)["ambiguous"] == 2
    for beside in (detect(0, 3, 60, 60, (30.6, 10, 10, 30)), detect(0, 3, 140, 60, (20, 20, 14, 30))):
        with pytest.raises(DataError, match="1 of 1 detections"):
            traced(data, setting, [beside])


def test_a_detector_from_images_to_its_trace(make_data, make_images, tiny_detector, tmp_path, monkeypatch):
    """Images of several shapes share batches, and their padding; still every detection contains its own location."""
    from fcos_cli.data.sources.files import image_files
    from fcos_cli.predict.job import predict_to_file
    from fcos_cli.runtime.predictor import Predictor
    from fcos_cli.weights.saved import load_detector

    sizes = {"a.png": (80, 60), "b.png": (200, 150), "c.png": (60, 90), "d.png": (90, 90), "e.png": (300, 70)}
    bare = image_files([str(make_images(sizes))])
    detector = load_detector(tiny_detector)
    predictor = Predictor(detector.model, detector.recipe.test, precision="float32", batch_size=3)
    predict_to_file(predictor, detector.categories, bare, tmp_path / "preds.json", locations=True)
    results, level, location = load_located_results(tmp_path / "preds.json")
    assert set(results[:, 0].astype(int)) == set(bare.image_ids.tolist())

    boxes = [(0, 5, 5, 50, 50), (1, 10, 10, 55, 60)]
    images = [(*sizes[name], boxes) for name in bare.file_names]
    data = make_data(images, image_ids=bare.image_ids, categories=detector.categories)
    setting = Setting.of_test(detector.recipe)
    inner = {tuple(size) for size in network_boxes(data, setting).padded.tolist()}
    assert len(inner) > 2
    with monkeypatch.context() as patch:
        patch.setattr(detections, "MOST_STRAY", 0)
        figures = trace(data, results, level, location, setting)
    assert figures["detections"] == len(results) > 100
    assert 0 < figures["cross_class"] == figures["ambiguous"] <= figures["positive"] < len(results)
    for other in (Setting.of_recipe(detector.recipe), replace(setting, short_side=48), replace(setting, long_side=140)):
        with pytest.raises(DataError, match="do not contain their own location") as caught:
            trace(data, results, level, location, other)
        assert "--recipe" in caught.value.hint
