import itertools

import numpy as np
import pytest

from fcos_cli.errors import DataError
from fcos_cli.evaluation.coco_ap import METRICS, evaluate, load_results

IMAGES = [(7, 640, 480), (3, 480, 640), (9, 100, 100)]
# pycocotools divides by a sum that is one rounding step too large.
ONE = pytest.approx(1, abs=1e-12)
CATEGORIES = [(2, "cat"), (5, "dog"), (17, "emu")]
TRUTH = [
    (7, 2, (10, 10, 100, 50), False, 5000.0),
    (7, 5, (200, 100, 20, 20), False, 400.0),
    (3, 2, (0, 0, 300, 300), False, 90000.0),
    (3, 5, (100, 100, 200, 200), True, 40000.0),
]


@pytest.fixture
def data(make_data):
    return make_data(IMAGES, TRUTH, CATEGORIES)


def perfect():
    return np.array([(a[0], *a[2], 0.9, a[1]) for a in TRUTH if not a[3]], dtype=np.float64)


def test_the_published_fixture_to_three_decimals(shared_data, coco_truth):
    folder = shared_data / "coco_eval_fixture"
    data = coco_truth(folder / "instances_val2014_100.json")
    results = load_results(folder / "instances_val2014_fakebbox100_results.json")
    evaluation = evaluate(data, results)
    published = [0.505, 0.697, 0.573, 0.586, 0.519, 0.501, 0.387, 0.594, 0.595, 0.640, 0.566, 0.564]
    assert list(evaluation.metrics) == list(METRICS)
    assert [round(v, 3) for v in evaluation.metrics.values()] == published
    assert evaluation.notes == ()
    # AP is the mean over the classes that have objects.
    assert np.mean([c.AP for c in evaluation.per_class if c.AP is not None]) == pytest.approx(evaluation.metrics["AP"])
    assert sum(c.boxes for c in evaluation.per_class) == (~data.crowd).sum()


def test_perfect_predictions_and_undefined_figures(data):
    evaluation = evaluate(data, perfect())
    for metric in ("AP", "AR100", "APs", "APm", "APl"):
        assert evaluation.metrics[metric] == ONE
    assert evaluation.per_class == [("cat", ONE, ONE, 2), ("dog", ONE, ONE, 1), ("emu", None, None, 0)]


def test_average_precision_by_hand(make_data):
    """Two of four objects found, one false alarm between them: precision 1 up to recall .25, 2/3 up to .5, then 0."""
    truth = [(1, 1, (50 * i, 0, 40, 40), False, 1600.0) for i in range(4)]
    data = make_data([(1, 300, 300)], truth, [(1, "a")])
    rows = [(1, 0, 0, 40, 40, 0.9, 1), (1, 0, 200, 40, 40, 0.8, 1), (1, 50, 0, 40, 40, 0.7, 1)]
    evaluation = evaluate(data, np.array(rows, dtype=float))
    expected = (26 * 1 + 25 * 2 / 3) / 101
    assert evaluation.metrics["AP50"] == pytest.approx(expected)
    assert evaluation.metrics["AP"] == pytest.approx(expected)
    assert evaluation.metrics["AR1"] == 0.25
    assert evaluation.metrics["AR100"] == 0.5
    assert evaluation.metrics["APs"] is None
    assert evaluation.metrics["APm"] == pytest.approx(expected)


def test_iou_thresholds_follow_the_overlap(make_data):
    """A box with IoU 0.72 counts at .50 .55 .60 .65 .70: half of the ten thresholds."""
    data = make_data([(1, 300, 300)], [(1, 1, (0, 0, 100, 100), False, 1e4)], [(1, "a")])
    metrics = evaluate(data, np.array([[1, 0, 0, 72, 100, 0.9, 1.0]])).metrics
    assert metrics["AP"] == pytest.approx(0.5)
    assert metrics["AP50"] == ONE
    assert metrics["AP75"] == 0


def test_size_follows_the_annotated_area_and_crowds_forgive(data, make_data):
    only_crowd_hits = np.concatenate([perfect(), [[3, 120, 120, 50, 50, 0.99, 5]]])
    assert evaluate(data, only_crowd_hits).metrics["AP"] == ONE
    small_segment = make_data([(1, 300, 300)], [(1, 1, (0, 0, 100, 100), False, 500.0)], [(1, "a")])
    metrics = evaluate(small_segment, np.array([[1, 0, 0, 100, 100, 0.9, 1.0]])).metrics
    assert metrics["APs"] == ONE
    assert metrics["APl"] is None


def test_nothing_predicted_nothing_annotated_and_no_images(data, make_data):
    nothing = evaluate(data, np.zeros((0, 7)))
    assert nothing.metrics["AP"] == nothing.metrics["AR100"] == 0
    assert "no predictions" in nothing.notes[0]
    empty = make_data(IMAGES, [], CATEGORIES)
    for rows in (np.zeros((0, 7)), perfect()):
        evaluation = evaluate(empty, rows)
        assert set(evaluation.metrics.values()) == {None}
        assert [c.boxes for c in evaluation.per_class] == [0, 0, 0]
        assert evaluation.notes == ("test set has no objects to find: there is nothing to measure",)
    crowds = evaluate(make_data(IMAGES, [(3, 2, (5, 5, 9, 9), True, 81.0)], CATEGORIES), perfect())
    assert "no objects to find but 1 crowd regions" in crowds.notes[0]
    assert set(evaluate(make_data([], [], []), np.zeros((0, 7))).metrics.values()) == {None}


def test_false_alarms_on_images_without_objects_cost_precision(data):
    alarms = [[9, 0, 0, 50, 50, 0.99, 2]] * 2
    assert evaluate(data, np.concatenate([perfect(), alarms])).metrics["AP"] < 0.9


def test_nothing_is_printed(data, capsys):
    evaluate(data, perfect())
    assert capsys.readouterr() == ("", "")


def test_order_of_rows_does_not_matter(data):
    rows = perfect()
    rows[:, 5] = [0.3, 0.5, 0.8]
    found = [evaluate(data, rows[list(order)]).metrics for order in itertools.permutations(range(3))]
    assert all(metrics == found[0] for metrics in found)


@pytest.mark.parametrize(
    ("column", "value", "message", "hint"),
    [
        (0, 8, "1 of the 3 image ids in the predictions do not belong to test set: 8;", "--split"),
        (6, 4, "only 1 are known to test set: unknown 4; known 2, 5, 17", "another data set"),
        (5, np.nan, "1 of 3 predictions hold NaN", "diverged"),
        (3, -4, "negative side", "width, height"),
    ],
)
def test_predictions_that_do_not_fit_the_data_set(data, column, value, message, hint):
    rows = perfect()
    rows[:, 6] = 5
    rows[0, column] = value
    with pytest.raises(DataError) as caught:
        evaluate(data, rows)
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize(
    ("ids", "hint"), [((0, 1, 2), "labels 0..2"), ((1, 2, 3), "counted from 1"), ((90, 91, 92), "another data set")]
)
def test_category_ids_of_another_numbering_are_recognised(data, ids, hint):
    rows = perfect()
    rows[:, 6] = ids
    with pytest.raises(DataError) as caught:
        evaluate(data, rows)
    assert hint in caught.value.hint


def test_no_annotations(data):
    from dataclasses import replace

    with pytest.raises(DataError, match="no annotations"):
        evaluate(replace(data, annotated=False), perfect())


def test_low_precision_comes_with_its_reason(data):
    rows = perfect()
    normalised = rows.copy()
    normalised[:, 1:5] /= 640
    assert "normalised" in evaluate(data, normalised).notes[0]
    swapped = rows.copy()
    swapped[:, 6] = [5, 2, 5]
    assert "AP50 1.000 when classes are ignored" in evaluate(data, swapped).notes[0]


def test_corners_instead_of_sides_are_recognised(make_data):
    truth = [(1, 1, (100 + 60 * i, 80 * i + 90, 50, 60), False, 3000.0) for i in range(5)]
    data = make_data([(1, 420, 500)], truth, [(1, "a")])
    rows = np.array([(1, *a[2], 0.9, 1) for a in truth], dtype=float)
    assert evaluate(data, rows).notes == ()
    rows[:, 3:5] += rows[:, 1:3]
    assert "x0, y0, x1, y1" in evaluate(data, rows).notes[0]
