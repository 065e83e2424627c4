"""Box arithmetic on NumPy arrays. Boxes are [..., 4] in pixels: xyxy = corners, xywh = COCO's corner and size."""

import numpy as np


def xywh_to_xyxy(boxes: np.ndarray) -> np.ndarray:
    """[B, 4] x, y, width, height -> x0, y0, x1, y1 (exact boxes: x1 = x + w)."""
    out = np.array(boxes, dtype=np.float64, copy=True).reshape(-1, 4)
    out[:, 2:] += out[:, :2]
    return out


def xyxy_to_xywh(boxes: np.ndarray) -> np.ndarray:
    """[B, 4] x0, y0, x1, y1 -> x, y, width, height."""
    out = np.array(boxes, dtype=np.float64, copy=True).reshape(-1, 4)
    out[:, 2:] -= out[:, :2]
    return out


def area(boxes: np.ndarray) -> np.ndarray:
    """Area [B] in square pixels of xyxy boxes [B, 4]; 0 where a side is negative."""
    sides = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None)
    return sides[..., 0] * sides[..., 1]


def clip(boxes: np.ndarray, width: float, height: float) -> np.ndarray:
    """xyxy boxes [B, 4] cut to the image [0, width] x [0, height]."""
    limit = np.array([width, height, width, height], dtype=boxes.dtype)
    return np.clip(boxes, 0, limit)


def iou(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Pairwise intersection over union [A, B] of xyxy boxes [A, 4] and [B, 4]; 0 where the union is empty."""
    corner0 = np.maximum(a[:, None, :2], b[None, :, :2])
    corner1 = np.minimum(a[:, None, 2:], b[None, :, 2:])
    sides = np.clip(corner1 - corner0, 0, None)
    shared = sides[..., 0] * sides[..., 1]
    union = area(a)[:, None] + area(b)[None] - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)
