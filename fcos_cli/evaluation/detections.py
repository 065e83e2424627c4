"""Detections in memory: one image's in its own pixels, and many as columns in a data set's own terms. No torch."""

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from fcos_cli.evaluation.categories import UNKNOWN_CATEGORY
from fcos_cli.evaluation.results import BOX_DECIMALS, SCORE_DECIMALS


@dataclass(frozen=True)
class ImageResult:
    """D detections in one image, by descending score.

    Attributes:
        index: position in the data set.
        image_id: the data set's own id.
        size: width and height of the original image in pixels.
        boxes: float64 [D, 4] xyxy in pixels of the original image, inside it.
        scores: float64 [D] in 0..1.
        labels: int64 [D], the model's contiguous labels.
        level: int64 [D], number of the pyramid level a detection came from, 3 for P3.
        location: int64 [D, 2], x and y of the location it came from, in pixels of the network input.
        invalid: detections left out because a number in them was not finite (the weights have diverged).
    """

    index: int
    image_id: int
    size: tuple[int, int]
    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    level: np.ndarray
    location: np.ndarray
    invalid: int = 0


class Columns(NamedTuple):
    """K detections in a data set's own terms.

    Attributes:
        image_id: int64 [K].
        category_id: int64 [K].
        boxes: float64 [K, 4] x, y, width, height in pixels of the original image, rounded as they are written.
        score: float64 [K], rounded as it is written.
        level: int64 [K], number of the pyramid level, 3 for P3.
        location: int64 [K, 2], x and y of the location in pixels of the network input.
    """

    image_id: np.ndarray
    category_id: np.ndarray
    boxes: np.ndarray
    score: np.ndarray
    level: np.ndarray
    location: np.ndarray

    def as_array(self) -> np.ndarray:
        """float64 [K, 7]: image_id, x, y, w, h, score, category_id, as `evaluation.coco_ap.evaluate` takes them."""
        return np.column_stack([self.image_id, self.boxes, self.score, self.category_id]).astype(np.float64)


def to_columns(result: ImageResult, category_ids: np.ndarray) -> Columns:
    """The detections of one image; those of classes that the data set lacks are left out.

    Args:
        result: from the predictor.
        category_ids: int64 [C], the data set's id of each of the model's labels (`match_categories`).
    """
    category = category_ids[result.labels]
    known = category != UNKNOWN_CATEGORY
    corners = np.round(result.boxes[known], BOX_DECIMALS)
    sides = np.round(corners[:, 2:] - corners[:, :2], BOX_DECIMALS)
    return Columns(
        image_id=np.full(int(known.sum()), result.image_id, dtype=np.int64),
        category_id=category[known],
        boxes=np.concatenate([corners[:, :2], sides], axis=1),
        score=np.round(result.scores[known], SCORE_DECIMALS),
        level=result.level[known],
        location=result.location[known],
    )


def concatenate(parts: list[Columns]) -> Columns:
    """The columns of many images as one."""
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return Columns(none, none, np.zeros((0, 4)), np.zeros(0), none, np.zeros((0, 2), dtype=np.int64))
    return Columns(*(np.concatenate(column) for column in zip(*parts, strict=True)))
