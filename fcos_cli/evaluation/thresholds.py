"""The score threshold at which each class has its best F1, at IoU 0.5. NumPy only.

F1 = 2 TP / (TP + FP + objects): the harmonic mean of precision and recall. Detections are matched to objects as COCO
does it (each detection, best score first, takes the free object that it overlaps most, with IoU >= 0.5; detections on
crowd regions count neither way), so a threshold cuts the list of a class without changing any match above it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from fcos_cli.evaluation.results import SCORE_STEP


class OperatingPoint(NamedTuple):
    """A class at the threshold of its best F1.

    Attributes:
        threshold: keep detections with at least this score. None where the class has no objects, or no detection
            meets one: then every threshold is as good.
        F1: the best F1, a fraction; None without objects.
        precision: at the threshold; None where no detection is kept.
        recall: at the threshold; None without objects.
    """

    threshold: float | None
    F1: float | None
    precision: float | None
    recall: float | None


def best_point(scores: np.ndarray, correct: np.ndarray, objects: int) -> OperatingPoint:
    """The threshold of the best F1; of equal F1, the highest threshold.

    The threshold lies halfway between the lowest score that is kept and the next one below (or one step of a written
    score below it), so that the rounding of scores decides nothing.

    Args:
        scores: float64 [K], in any order.
        correct: bool [K], the detection met an object.
        objects: number of objects to find.
    """
    if not objects:
        return OperatingPoint(None, None, None, None)
    if not correct.any():
        return OperatingPoint(None, 0.0, None, 0.0)
    order = np.argsort(-scores, kind="stable")
    scores = scores[order]
    true_positives = np.cumsum(correct[order])
    # A threshold keeps all detections of one score or none of them.
    ends = np.flatnonzero(np.append(scores[1:] < scores[:-1], True))
    f1 = 2 * true_positives[ends] / (ends + 1 + objects)
    best = int(f1.argmax())
    last = ends[best]
    below = scores[last + 1] if last + 1 < len(scores) else scores[last] - 2 * SCORE_STEP
    return OperatingPoint(
        threshold=max(0.0, float(scores[last] + below) / 2),
        F1=float(f1[best]),
        precision=float(true_positives[last] / (last + 1)),
        recall=float(true_positives[last] / objects),
    )


def best_points(judged: Sequence[dict[str, Any] | None], classes: int, iou: int = 0) -> tuple[OperatingPoint, ...]:
    """The best point of each class from pycocotools' matches.

    Args:
        judged: its `evalImgs` over all areas, class by class: as many entries a class as there are images.
        classes: number of classes.
        iou: position of the IoU threshold in its `iouThrs`.
    """
    images = len(judged) // classes if classes else 0
    points = []
    for label in range(classes):
        entries = [entry for entry in judged[label * images : (label + 1) * images] if entry is not None]
        scores = _joined([entry["dtScores"] for entry in entries], np.float64)
        matched = _joined([entry["dtMatches"][iou] > 0 for entry in entries], bool)
        counted = ~_joined([entry["dtIgnore"][iou] for entry in entries], bool)
        objects = sum(int((~np.asarray(entry["gtIgnore"], dtype=bool)).sum()) for entry in entries)
        points.append(best_point(scores[counted], matched[counted], objects))
    return tuple(points)


def mean_f1(points: Sequence[OperatingPoint]) -> float | None:
    """Mean of the best F1 over the classes that have objects; None where none has."""
    defined = [point.F1 for point in points if point.F1 is not None]
    return float(np.mean(defined)) if defined else None


def _joined(parts: list[Any], dtype: Any) -> np.ndarray:
    return np.concatenate([np.asarray(part, dtype=dtype) for part in parts]) if parts else np.zeros(0, dtype=dtype)
