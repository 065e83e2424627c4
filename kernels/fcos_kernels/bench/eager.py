"""The ops as FCOS implementations usually write them in eager PyTorch, to be timed against.

Dense [locations, boxes] matching image by image, levels permuted and joined, one-hot targets, one elementwise op after
another: the structure of torchvision's FCOS (compute_loss of its head) and its peers, in our own words.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Loss = Callable[..., Tensor]


def locations(grids: Sequence[tuple[int, int]], strides: Sequence[int], starts: Sequence[int]) -> Tensor:
    """float32 [L, 2] x, y of all levels."""
    parts = []
    for (rows, columns), stride, start in zip(grids, strides, starts, strict=True):
        y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
        parts.append(torch.stack([x.flatten(), y.flatten()], dim=1) * stride + start)
    return torch.cat(parts).float()


def level_limits(grids: Sequence[tuple[int, int]], ranges: Sequence[tuple[float, float]]) -> tuple[Tensor, Tensor]:
    """float32 [L] each: the range of every location's level."""
    counts = torch.tensor([rows * columns for rows, columns in grids])
    lower, upper = torch.tensor(ranges, dtype=torch.float32).unbind(1)
    return lower.repeat_interleave(counts), upper.repeat_interleave(counts)


def match_image(boxes: Tensor, points: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """int64 [L], box of each location of one image, -1 where there is none; boxes [G, 4]."""
    x, y = points[:, None].unbind(2)
    x0, y0, x1, y1 = boxes.unbind(1)
    sides = torch.stack([x - x0, y - y0, x1 - x, y1 - y], dim=2)
    far = sides.amax(2)
    may = (sides.amin(2) > 0) & (far >= lower[:, None]) & (far <= upper[:, None])
    area = torch.where(may, (x1 - x0) * (y1 - y0), torch.inf)
    smallest, index = area.min(1)
    return torch.where(smallest < torch.inf, index, -1)


def assign(boxes: Sequence[Tensor], points: Tensor, lower: Tensor, upper: Tensor) -> Tensor:
    """int64 [N, L], row of each image's own boxes, -1 background."""
    matches = []
    for own in boxes:
        if not len(own):
            matches.append(torch.full((len(points),), -1, device=points.device))
        else:
            matches.append(match_image(own, points, lower, upper))
    return torch.stack(matches)


def focal(logits: Tensor, target: Tensor, alpha: float = 0.25, gamma: float = 2.0, reduction: str = "sum") -> Tensor:
    """Focal loss of logits against a 0/1 target of the same shape, summed."""
    p = torch.sigmoid(logits)
    entropy = F.binary_cross_entropy_with_logits(logits, target, reduction="none")
    right = p * target + (1 - p) * (1 - target)
    weight = alpha * target + (1 - alpha) * (1 - target)
    return (weight * entropy * (1 - right) ** gamma).sum()


def giou(boxes: Tensor, target: Tensor, reduction: str = "sum", eps: float = 1e-7) -> Tensor:
    """1 - GIoU of pairs of xyxy boxes [P, 4], summed."""
    low, high = torch.maximum(boxes[:, :2], target[:, :2]), torch.minimum(boxes[:, 2:], target[:, 2:])
    sides = (high - low).clamp(min=0)
    shared = sides[:, 0] * sides[:, 1]
    areas = [(b[:, 2] - b[:, 0]) * (b[:, 3] - b[:, 1]) for b in (boxes, target)]
    union = areas[0] + areas[1] - shared
    hull = torch.maximum(boxes[:, 2:], target[:, 2:]) - torch.minimum(boxes[:, :2], target[:, :2])
    area = hull[:, 0] * hull[:, 1]
    return (1 - shared / (union + eps) + (area - union) / (area + eps)).sum()


def detection_loss(
    class_logits: Sequence[Tensor],
    box_outputs: Sequence[Tensor],
    quality_logits: Sequence[Tensor],
    *,
    index: Tensor,
    boxes: Sequence[Tensor],
    labels: Sequence[Tensor],
    points: Tensor,
    units: Tensor,
    focal_loss: Loss = focal,
    box_loss: Loss = giou,
) -> tuple[Tensor, Tensor, Tensor]:
    """Classification, box (GIoU, unweighted) and centre-ness loss, each / N_pos; distances are relu(x) units.

    Args:
        index: int64 [N, L], row of each image's own boxes, -1 background.
        boxes, labels: per image [G, 4] and [G].
        points, units: float32 [L, 2] and [L], pixels of a distance of 1.
    """
    images = len(class_logits[0])
    logits, raw, quality = (
        torch.cat([x.permute(0, 2, 3, 1).reshape(images, -1, x.shape[1]) for x in outputs], dim=1)
        for outputs in (class_logits, box_outputs, quality_logits)
    )
    wanted, target_labels = [], []
    for own, own_labels, matched in zip(boxes, labels, index, strict=True):
        if not len(own):
            wanted.append(torch.zeros(len(points), 4, device=points.device))
            target_labels.append(torch.full_like(matched, -1))
            continue
        wanted.append(own[matched.clamp(min=0)])
        target_labels.append(torch.where(matched >= 0, own_labels[matched.clamp(min=0)].long(), -1))
    target_boxes, target_label = torch.stack(wanted), torch.stack(target_labels)
    positive = target_label >= 0
    count = positive.sum().clamp(min=1)

    hot = torch.zeros_like(logits)
    hot[positive, target_label[positive]] = 1.0
    classification = focal_loss(logits, hot, reduction="sum")

    distance = raw.float().relu() * units[:, None]
    predicted = torch.cat([points - distance[..., :2], points + distance[..., 2:]], dim=2)
    box = box_loss(predicted[positive], target_boxes[positive], reduction="sum")

    low, high = points - target_boxes[..., :2], target_boxes[..., 2:] - points
    sides = torch.stack([low, high], dim=-1)[positive]
    center = (sides.amin(-1) / sides.amax(-1)).prod(-1).sqrt()
    bce = F.binary_cross_entropy_with_logits(quality.squeeze(2)[positive].float(), center, reduction="sum")
    return classification / count, box / count, bce / count


def group_norm_relu(inputs: Sequence[Tensor], weight: Tensor, bias: Tensor, groups: int = 32) -> list[Tensor]:
    """GroupNorm and ReLU, level by level."""
    return [F.relu(F.group_norm(x, groups, weight.to(x.dtype), bias.to(x.dtype))) for x in inputs]


def nms(boxes: Tensor, scores: Tensor, labels: Tensor, threshold: float, most: int) -> Tensor:
    """Rows kept of one image, at most `most`: one kept box after another against all that is left."""
    left = scores.argsort(descending=True, stable=True)
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept: list[Tensor] = []
    while len(left) and len(kept) < most:
        best, left = left[0], left[1:]
        kept.append(best)
        corner, other = (
            torch.maximum(boxes[best, :2], boxes[left, :2]),
            torch.minimum(boxes[best, 2:], boxes[left, 2:]),
        )
        shared = (other - corner).clamp(min=0).prod(1)
        overlaps = shared / (area[best] + area[left] - shared) > threshold
        left = left[~(overlaps & (labels[left] == labels[best]))]
    return torch.stack(kept)
