"""The thresholds of the best F1 against a search over every threshold with a matching of its own."""

import numpy as np
import pytest

from fcos_cli.evaluation.coco_ap import evaluate
from fcos_cli.evaluation.thresholds import OperatingPoint, best_point, mean_f1

CATEGORIES = [(3, "cat"), (7, "dog"), (8, "owl")]


def overlap(box, other, crowd):
    """IoU of x, y, w, h boxes; against a crowd, the share of the detection inside it."""
    w = min(box[0] + box[2], other[0] + other[2]) - max(box[0], other[0])
    h = min(box[1] + box[3], other[1] + other[3]) - max(box[1], other[1])
    shared = max(w, 0) * max(h, 0)
    return shared / (box[2] * box[3] if crowd else box[2] * box[3] + other[2] * other[3] - shared)


def counts_at(threshold, annotations, results, category):
    """(TP, FP, objects) of the detections with at least this score, matched anew."""
    true = false = 0
    objects = [a for a in annotations if a[1] == category and not a[3]]
    for image in {a[0] for a in annotations} | {int(row[0]) for row in results}:
        truth = [a for a in annotations if a[0] == image and a[1] == category]
        free = [a for a in truth if not a[3]]
        crowds = [a for a in truth if a[3]]
        rows = [r for r in results if int(r[0]) == image and int(r[6]) == category and r[5] >= threshold]
        for row in sorted(rows, key=lambda r: -r[5])[:100]:
            best = max(free, key=lambda a: overlap(row[1:5], a[2], False), default=None)
            if best is not None and overlap(row[1:5], best[2], False) >= 0.5:
                free = [a for a in free if a is not best]
                true += 1
            elif not any(overlap(row[1:5], a[2], True) >= 0.5 for a in crowds):
                false += 1
    return true, false, len(objects)


@pytest.fixture(params=range(4))
def scene(request, make_data):
    """A random data set (crowds, a class without objects) and detections: objects moved about, and noise."""
    rng = np.random.default_rng(request.param)
    images = [(i, 100, 100) for i in range(1, 7)]
    annotations, results = [], []
    for image, _, _ in images:
        for _ in range(int(rng.integers(0, 6))):
            category = int(rng.choice([3, 7]))
            box = (*rng.uniform(0, 60, 2), *rng.uniform(10, 40, 2))
            annotations.append((image, category, box, bool(rng.random() < 0.15), box[2] * box[3]))
            for _ in range(int(rng.integers(0, 3))):
                moved = np.array(box) + rng.normal(0, 3, 4)
                results.append((image, *moved, round(float(rng.beta(4, 2)), 2), category))
        for _ in range(int(rng.integers(0, 5))):
            box = (*rng.uniform(0, 60, 2), *rng.uniform(10, 40, 2))
            results.append((image, *box, round(float(rng.beta(2, 4)), 2), int(rng.choice([3, 7, 8]))))
    return make_data(images, annotations, CATEGORIES), annotations, np.array(results)


def test_no_threshold_is_better(scene):
    data, annotations, results = scene
    points = evaluate(data, results).operating
    assert len(points) == 3
    for point, (category, _) in zip(points, CATEGORIES, strict=True):
        candidates = [0.0, *np.unique(results[:, 5])]
        best = -1.0
        for threshold in candidates:
            true, false, objects = counts_at(threshold, annotations, results, category)
            best = max(best, 2 * true / max(1, true + false + objects))
        if not objects:
            assert point == OperatingPoint(None, None, None, None)
            continue
        assert pytest.approx(best, abs=1e-12) == point.F1
        true, false, objects = counts_at(point.threshold, annotations, results, category)
        assert 2 * true / (true + false + objects) == pytest.approx(best, abs=1e-12)
        assert (point.precision, point.recall) == pytest.approx((true / (true + false), true / objects))
        # No score lies within the rounding of the threshold: what an unrounded score decides, a written one does, too.
        assert np.abs(results[results[:, 6] == category, 5] - point.threshold).min() >= 0.5e-6


def test_equal_scores_stand_or_fall_together():
    point = best_point(np.array([0.9, 0.5, 0.5, 0.5]), np.array([True, True, False, False]), 2)
    # All three at 0.5: 2 of 4 right, F1 4/6. Without them: F1 2/3, the same, and the higher threshold is taken.
    assert pytest.approx(2 / 3) == point.F1
    assert point.threshold == pytest.approx(0.7)


def test_the_lowest_score_can_be_the_best_cut():
    point = best_point(np.array([0.2, 0.8]), np.array([True, True]), 2)
    assert point.F1 == 1
    assert 0.2 - 2e-6 < point.threshold < 0.2
    assert best_point(np.array([1e-7]), np.array([True]), 1).threshold == 0


def test_without_objects_or_matches_there_is_no_threshold():
    assert best_point(np.array([0.5]), np.array([False]), 0) == OperatingPoint(None, None, None, None)
    assert best_point(np.array([0.5]), np.array([False]), 3) == OperatingPoint(None, 0.0, None, 0.0)
    assert best_point(np.zeros(0), np.zeros(0, dtype=bool), 3) == OperatingPoint(None, 0.0, None, 0.0)


def test_the_mean_is_over_classes_with_objects():
    points = [best_point(np.array([0.5]), np.array([True]), 1), OperatingPoint(None, 0.0, None, 0.0)]
    assert mean_f1([*points, OperatingPoint(None, None, None, None)]) == 0.5
    assert mean_f1([OperatingPoint(None, None, None, None)]) is None


def test_a_data_set_without_images(make_data):
    assert evaluate(make_data([], [], CATEGORIES), np.zeros((0, 7))).operating == (OperatingPoint(*[None] * 4),) * 3
