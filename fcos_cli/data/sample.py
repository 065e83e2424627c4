"""An image and its boxes on their way into the network. NumPy and Pillow, no torch."""

from dataclasses import dataclass

import numpy as np

from fcos_cli.data.images import resize
from fcos_cli.geometry.boxes import clip
from fcos_cli.geometry.resize import resized_size


@dataclass(frozen=True)
class Sample:
    """An image with its boxes: as the data set has it, at network size, or in between.

    Attributes:
        image: uint8 [H, W, 3] RGB; contiguous where it enters a batch.
        boxes: float64 [B, 4] xyxy in pixels of `image`, cut to it once it is resized; a row for every annotated box.
        ratios: (x, y), pixels of `image` per pixel of the original along each axis.
        original_size: (width, height) of the original in pixels.
    """

    image: np.ndarray
    boxes: np.ndarray
    ratios: tuple[float, float]
    original_size: tuple[int, int]


def original(image: np.ndarray, boxes: np.ndarray) -> Sample:
    """An image uint8 [H, W, 3] RGB as it is stored, with its boxes [B, 4] xyxy in its own pixels."""
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    return Sample(image, boxes, (1.0, 1.0), (image.shape[1], image.shape[0]))


def prepare(image: np.ndarray, boxes: np.ndarray, short_side: int, long_side: int) -> Sample:
    """Resizes by the authors' rule (`geometry/resize.py`); the boxes follow by the two rounded ratios.

    Args:
        image: uint8 [H, W, 3] RGB.
        boxes: [B, 4] xyxy in pixels of `image`.
    """
    height, width = image.shape[:2]
    resized = resize(image, *resized_size(width, height, short_side, long_side))
    return placed(np.ascontiguousarray(resized), boxes, (width, height))


def placed(resized: np.ndarray, boxes: np.ndarray, original_size: tuple[int, int]) -> Sample:
    """An image that is resized already, with its boxes [B, 4] xyxy brought from the original's pixels into its own."""
    height, width = resized.shape[:2]
    ratios = (width / original_size[0], height / original_size[1])
    moved = np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * np.array([*ratios, *ratios])
    return Sample(resized, clip(moved, width, height), ratios, original_size)
