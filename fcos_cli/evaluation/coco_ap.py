"""COCO average precision and recall of a result list, computed by pycocotools: no files, nothing printed.

The twelve figures are COCO's own (cocodataset.org, "Detection evaluation"): AP is the mean over the IoU thresholds
.50:.05:.95 and the classes that have objects; AR the same of the largest recall with 1, 10 and 100 detections an image.
Beside them, from the same matches: each class's best F1 and its score threshold (`thresholds.py`).
"""

import contextlib
import io
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np

from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError
from fcos_cli.evaluation.results import RESULT_COLUMNS, check_results, load_results
from fcos_cli.evaluation.thresholds import OperatingPoint, best_points

__all__ = ["METRICS", "ClassResult", "Evaluation", "evaluate", "load_results"]

METRICS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")

# Positions on pycocotools' axes: area ranges all, small, medium, large; at most 1, 10, 100 detections an image.
_ALL, _SMALL, _MEDIUM, _LARGE = range(4)
_ONE, _TEN, _HUNDRED = range(3)
_IOU_50, _IOU_75 = 0, 5

# Below this AP50 the result is suspicious enough to look for the reason.
_SUSPICIOUS_AP50 = 0.05


class ClassResult(NamedTuple):
    """Precision of one class as fractions (None: it has no objects), and the number of its objects without crowds."""

    name: str
    AP: float | None
    AP50: float | None
    boxes: int


@dataclass(frozen=True)
class Evaluation:
    """What an evaluation found.

    Attributes:
        metrics: the twelve figures of `METRICS` as fractions; None where undefined (no objects of that size).
        per_class: one row a class, in label order.
        notes: what may be wrong where the figures are undefined or suspiciously low; usually empty.
        operating: the threshold of the best F1 of each class at IoU 0.5, in label order.
    """

    metrics: dict[str, float | None]
    per_class: list[ClassResult]
    notes: tuple[str, ...] = ()
    operating: tuple[OperatingPoint, ...] = ()


def evaluate(data: DetectionData, results: np.ndarray) -> Evaluation:
    """Evaluates detections against a data set's annotations, crowds and annotated areas as COCO does.

    Args:
        data: ground truth of N images; images without objects count (their detections are false).
        results: float64 [K, 7] rows (image_id, x, y, w, h, score, category_id): pixels of the original image and the
            data set's own ids. K may be 0.

    Raises:
        DataError: no annotations, image or category ids that the data set does not have, values that are not finite.
    """
    if not data.annotated:
        raise DataError(f"{data.name} has no annotations to evaluate against", "give --data an annotated data set")
    results = np.asarray(results, dtype=np.float64).reshape(-1, RESULT_COLUMNS)
    check_results(data, results)
    judge = _judge(_truth(data), _detections(results), data)
    precision, recall = judge.eval["precision"], judge.eval["recall"]

    metrics: dict[str, float | None] = {
        "AP": _mean(precision[..., _ALL, _HUNDRED]),
        "AP50": _mean(precision[_IOU_50, ..., _ALL, _HUNDRED]),
        "AP75": _mean(precision[_IOU_75, ..., _ALL, _HUNDRED]),
        "APs": _mean(precision[..., _SMALL, _HUNDRED]),
        "APm": _mean(precision[..., _MEDIUM, _HUNDRED]),
        "APl": _mean(precision[..., _LARGE, _HUNDRED]),
        "AR1": _mean(recall[..., _ALL, _ONE]),
        "AR10": _mean(recall[..., _ALL, _TEN]),
        "AR100": _mean(recall[..., _ALL, _HUNDRED]),
        "ARs": _mean(recall[..., _SMALL, _HUNDRED]),
        "ARm": _mean(recall[..., _MEDIUM, _HUNDRED]),
        "ARl": _mean(recall[..., _LARGE, _HUNDRED]),
    }
    counts = np.bincount(data.labels[~data.crowd], minlength=len(data.categories))
    per_class = [
        ClassResult(
            name,
            _mean(precision[:, :, label, _ALL, _HUNDRED]),
            _mean(precision[_IOU_50, :, label, _ALL, _HUNDRED]),
            int(counts[label]),
        )
        for label, name in enumerate(data.categories.names)
    ]
    operating = best_points(_over_all_areas(judge), len(data.categories), _IOU_50)
    return Evaluation(metrics, per_class, _notes(data, results, metrics["AP50"]), operating)


def _mean(values: np.ndarray) -> float | None:
    """Mean over the defined entries (pycocotools writes -1 where there is nothing to find)."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else None


def _truth(data: DetectionData) -> list[dict[str, Any]]:
    """Annotations as pycocotools wants them. Their ids start at 1: to its matching, 0 means unmatched."""
    images = np.repeat(data.image_ids, np.diff(data.offsets)).tolist()
    categories = np.asarray(data.categories.ids, dtype=np.int64)[data.labels].tolist() if len(data.labels) else []
    corners = data.boxes[:, :2].tolist()
    sides = (data.boxes[:, 2:] - data.boxes[:, :2]).tolist()
    columns = zip(images, categories, corners, sides, data.areas.tolist(), data.crowd.tolist(), strict=True)
    return [
        {
            "id": row,
            "image_id": image,
            "category_id": category,
            "bbox": [*corner, *side],
            "area": area,
            "iscrowd": int(crowd),
        }
        for row, (image, category, corner, side, area, crowd) in enumerate(columns, start=1)
    ]


def _detections(results: np.ndarray) -> list[dict[str, Any]]:
    columns = zip(
        results[:, 0].astype(np.int64).tolist(),
        results[:, 6].astype(np.int64).tolist(),
        results[:, 1:5].tolist(),
        results[:, 5].tolist(),
        strict=True,
    )
    return [
        {
            "id": row,
            "image_id": image,
            "category_id": category,
            "bbox": bbox,
            "score": score,
            "area": bbox[2] * bbox[3],
            "iscrowd": 0,
        }
        for row, (image, category, bbox, score) in enumerate(columns, start=1)
    ]


def _judge(
    truth: list[dict[str, Any]], detections: list[dict[str, Any]], data: DetectionData, *, by_class: bool = True
) -> Any:
    """pycocotools' COCOeval, done: its matches in `evalImgs`, and in `eval` the precision [10 IoUs, 101 recalls, C, 4
    areas, 3 limits] and the recall [10, C, 4, 3]; -1 where undefined.

    With `by_class` off, classes are ignored: C is 1, and only IoU 0.5 over all areas with 100 detections is computed.
    """
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    images = [{"id": image} for image in data.image_ids.tolist()]
    categories = [{"id": i, "name": n} for i, n in zip(data.categories.ids, data.categories.names, strict=True)]
    with contextlib.redirect_stdout(io.StringIO()):
        sides = []
        for annotations in (truth, detections):
            side = COCO()
            side.dataset = {"images": images, "categories": categories, "annotations": annotations}
            side.createIndex()
            sides.append(side)
        judge = COCOeval(*sides, iouType="bbox")
        if not by_class:
            judge.params.useCats = 0
            judge.params.iouThrs = np.array([0.5])
            judge.params.areaRng, judge.params.areaRngLbl = judge.params.areaRng[:1], ["all"]
            judge.params.maxDets = [100]
        judge.evaluate()
        judge.accumulate()
    return judge


def _over_all_areas(judge: Any) -> list[dict[str, Any] | None]:
    """The matches of every class and image, class by class; those within the other area ranges left out."""
    images, areas = len(judge.params.imgIds), len(judge.params.areaRng)
    return [
        entry
        for begin in range(images * _ALL, len(judge.evalImgs), max(1, images * areas))
        for entry in judge.evalImgs[begin : begin + images]
    ]


def _notes(data: DetectionData, results: np.ndarray, ap50: float | None) -> tuple[str, ...]:
    """Why the precision may be next to nothing: the usual mistakes in a result list, told apart by the numbers."""
    if ap50 is None:
        crowds = f" but {len(data.boxes)} crowd regions" if len(data.boxes) else ""
        return (f"{data.name} has no objects to find{crowds}: there is nothing to measure",)
    if ap50 >= _SUSPICIOUS_AP50:
        return ()
    if not len(results):
        return ("there are no predictions at all: lower the score threshold, or check that the model has trained",)
    boxes = results[:, 1:5]
    if np.abs(boxes).max() <= 2 and data.boxes.max(initial=0) > 4:
        return ("the predicted boxes look normalised to 0..1: they must be pixels of the original image",)
    corners = np.concatenate([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], axis=1)
    widths, heights = _image_sizes(data, results[:, 0])
    known = (widths > 0) & (heights > 0)
    outside = known & ((corners[:, 2] > 1.05 * widths) | (corners[:, 3] > 1.05 * heights))
    as_corners = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
    if known.any() and outside.sum() > 0.3 * known.sum() and as_corners.mean() > 0.99:
        return ("the predicted boxes look like x0, y0, x1, y1: COCO result lists hold x, y, width, height",)
    blind = _mean(_judge(_truth(data), _detections(results), data, by_class=False).eval["precision"])
    if blind is not None and blind > max(0.2, 4 * ap50):
        return (
            f"the boxes are right (AP50 {blind:.3f} when classes are ignored) but the classes are not: "
            "the predictions may use other category ids than the data set",
        )
    return ()


def _image_sizes(data: DetectionData, image_ids: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    order = np.argsort(data.image_ids)
    sizes = data.sizes[order[np.searchsorted(data.image_ids[order], image_ids.astype(np.int64))]]
    return sizes[:, 0], sizes[:, 1]
