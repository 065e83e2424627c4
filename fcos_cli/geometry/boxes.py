"""Box arithmetic on NumPy arrays. Boxes are [..., 4] xyxy in pixels."""

import numpy as np


def clip(boxes: np.ndarray, width: float, height: float) -> np.ndarray:
    """xyxy boxes [B, 4] cut to the image [0, width] x [0, height]."""
    limit = np.array([width, height, width, height], dtype=boxes.dtype)
    return np.clip(boxes, 0, limit)
