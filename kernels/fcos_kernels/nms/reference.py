"""Suppression once more, straight from its definition: small inputs only. Tests hold the others to it."""

import torch
from torch import Tensor


def nms(boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float, images: Tensor) -> list[int]:
    """Indices kept, by image, then descending score, then index: one box after another; the threshold is float32."""
    iou_threshold = torch.tensor(iou_threshold, dtype=torch.float32).item()
    order = sorted(range(len(boxes)), key=lambda i: (int(images[i]), -float(scores[i]), i))
    kept: list[int] = []
    for i in order:
        rivals = [j for j in kept if images[j] == images[i] and classes[j] == classes[i]]
        if all(not _iou(boxes[i], boxes[j]) > iou_threshold for j in rivals):
            kept.append(i)
    return kept


def _iou(a: Tensor, b: Tensor) -> float:
    """IoU of two boxes [4] in float32."""
    sides = (torch.minimum(a[2:], b[2:]) - torch.maximum(a[:2], b[:2])).clamp(min=0)
    shared = sides[0] * sides[1]
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return float(shared / union)
