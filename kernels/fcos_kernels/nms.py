"""Non-maximum suppression: exact, greedy, class-aware, for all images of a batch.

In order of descending score (ties: the lower index first), a box is kept unless it overlaps a kept box of the same
image and class with IoU > threshold. IoU is intersection / (area + area - intersection) in float32. Classes are
compared, not moved apart by offsets, which round coordinates.

Blocks of boxes are held against those kept so far, all at once, then among themselves, row by row of the block's
overlap matrix. Where only the best boxes of an image are wanted, the remaining blocks are not looked at.
"""

import numpy as np
import torch
from torch import Tensor

from fcos_kernels.checks import check_same_device, check_tensor

BLOCK = 256


@torch.no_grad()
def nms(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    iou_threshold: float,
    *,
    images: Tensor | None = None,
    max_per_image: int = 0,
) -> Tensor:
    """Indices of the boxes that stay.

    Args:
        boxes: float32 [K, 4] xyxy.
        scores: float32 [K].
        classes: int64 or int32 [K].
        iou_threshold: boxes of one class and image that overlap more are suppressed.
        images: int64 or int32 [K], the image of each box; None: one image.
        max_per_image: keep at most this many of each image; 0: all.

    Returns:
        int64 indices, by image, then descending score, then index.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device.
    """
    integers = (torch.int64, torch.int32)
    check_tensor("boxes", boxes, torch.float32, [None, 4])
    check_tensor("scores", scores, torch.float32, [len(boxes)])
    check_tensor("classes", classes, integers, [len(boxes)])
    if images is not None:
        check_tensor("images", images, integers, [len(boxes)])
    check_same_device(boxes, scores=scores, classes=classes, images=images)
    if max_per_image < 0:
        raise ValueError(f"max_per_image must be 0 (all) or above, not {max_per_image}")

    order = scores.argsort(descending=True, stable=True)
    if images is None:
        groups = [order]
    else:
        order = order[images[order].argsort(stable=True)]
        _, counts = torch.unique_consecutive(images[order], return_counts=True)
        groups = list(order.split(counts.tolist()))
    kept = [group[_greedy(boxes[group], classes[group], iou_threshold, max_per_image)] for group in groups]
    return torch.cat(kept) if kept else order


def _greedy(boxes: Tensor, classes: Tensor, threshold: float, most: int) -> Tensor:
    """Rows kept of one image's boxes, which come by descending score; at most `most` (0: all)."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = torch.zeros(0, dtype=torch.int64, device=boxes.device)
    for begin in range(0, len(boxes), BLOCK):
        rows = torch.arange(begin, min(begin + BLOCK, len(boxes)), device=boxes.device)
        if len(kept):
            rows = rows[~_overlap(boxes, area, classes, kept, rows, threshold).any(0)]
        suppresses = _overlap(boxes, area, classes, rows, rows, threshold).triu_(1).cpu().numpy()
        alive = np.ones(len(rows), np.bool_)
        for row in np.flatnonzero(np.any(suppresses, axis=1)):
            if alive[row]:
                alive &= ~suppresses[row]
        kept = torch.cat([kept, rows[torch.from_numpy(alive).to(rows.device)]])
        if most and len(kept) >= most:
            return kept[:most]
    return kept


def _overlap(boxes: Tensor, area: Tensor, classes: Tensor, a: Tensor, b: Tensor, threshold: float) -> Tensor:
    """[A, B]: rows a and b are of one class and overlap with IoU > threshold; boxes without area overlap nothing."""
    first, second = boxes[a].T[:, :, None], boxes[b].T[:, None]
    width = (torch.minimum(first[2], second[2]) - torch.maximum(first[0], second[0])).clamp_(min=0)
    height = (torch.minimum(first[3], second[3]) - torch.maximum(first[1], second[1])).clamp_(min=0)
    shared = width.mul_(height)
    union = area[a][:, None] + area[b] - shared
    return (shared.div_(union) > threshold) & (classes[a][:, None] == classes[b])
