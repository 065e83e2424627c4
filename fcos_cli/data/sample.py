"""Images and their boxes on the way into the network: resize, flips, and the way back. NumPy and Pillow, no torch."""

from dataclasses import dataclass

import numpy as np

from fcos_cli.data.images import resize
from fcos_cli.geometry.boxes import clip
from fcos_cli.geometry.resize import resized_size


@dataclass(frozen=True)
class Sample:
    """An image as the network gets it.

    Attributes:
        image: uint8 [H, W, 3] RGB, contiguous.
        boxes: float64 [B, 4] xyxy in pixels of `image`, cut to it; a row for every box that came in.
        ratios: (x, y), pixels of `image` per pixel of the original along each axis.
        original_size: (width, height) of the original in pixels.
    """

    image: np.ndarray
    boxes: np.ndarray
    ratios: tuple[float, float]
    original_size: tuple[int, int]


def draw_short_side(short_side: int | tuple[int, int], draw: float) -> int:
    """The short side that `draw`, uniform in [0, 1), picks: itself, or one of the integers low..high, both included."""
    if isinstance(short_side, int):
        return short_side
    low, high = short_side
    return low + int(draw * (high - low + 1))


def flip_boxes_horizontal(boxes: np.ndarray, width: float) -> np.ndarray:
    """xyxy boxes [B, 4] in an image `width` pixels wide, mirrored left to right."""
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)


def flip_boxes_vertical(boxes: np.ndarray, height: float) -> np.ndarray:
    """xyxy boxes [B, 4] in an image `height` pixels high, mirrored top to bottom."""
    return np.stack([boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]], axis=1)


def prepare(
    image: np.ndarray,
    boxes: np.ndarray,
    short_side: int,
    long_side: int,
    *,
    flip: bool = False,
    vertical_flip: bool = False,
) -> Sample:
    """Resizes by the authors' rule (`geometry/resize.py`), then flips; the boxes follow by the two rounded ratios.

    Args:
        image: uint8 [H, W, 3] RGB.
        boxes: [B, 4] xyxy in pixels of `image`.
    """
    original_height, original_width = image.shape[:2]
    width, height = resized_size(original_width, original_height, short_side, long_side)
    prepared = placed(resize(image, width, height), boxes, (original_width, original_height))
    resized, moved = prepared.image, prepared.boxes
    if flip:
        resized, moved = resized[:, ::-1], flip_boxes_horizontal(moved, width)
    if vertical_flip:
        resized, moved = resized[::-1], flip_boxes_vertical(moved, height)
    return Sample(np.ascontiguousarray(resized), moved, prepared.ratios, (original_width, original_height))


def placed(resized: np.ndarray, boxes: np.ndarray, original_size: tuple[int, int]) -> Sample:
    """An image that is resized already, with its boxes [B, 4] xyxy brought from the original's pixels into its own."""
    height, width = resized.shape[:2]
    ratios = (width / original_size[0], height / original_size[1])
    moved = np.asarray(boxes, dtype=np.float64).reshape(-1, 4) * np.array([*ratios, *ratios])
    return Sample(resized, clip(moved, width, height), ratios, original_size)
