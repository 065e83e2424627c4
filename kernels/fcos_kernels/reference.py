"""The ops once more, straight from their definitions: dense, small inputs only. What the tests hold the others against.

No float tricks, no closed-form gradients: autograd differentiates the losses. float64 unless said otherwise.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor


def locations(grids: Sequence[tuple[int, int]], strides: Sequence[int], starts: Sequence[int]) -> Tensor:
    """[L, 3] x, y and level of every location, float64."""
    rows = [
        (start + column * stride, start + row * stride, level)
        for level, ((height, width), stride, start) in enumerate(zip(grids, strides, starts, strict=True))
        for row in range(height)
        for column in range(width)
    ]
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)


def assign(
    boxes: Tensor,
    offsets: Tensor,
    *,
    grids: Sequence[tuple[int, int]],
    strides: Sequence[int],
    starts: Sequence[int],
    ranges: Sequence[tuple[float, float]],
    radius: float = 0.0,
    inclusive: bool = True,
    ignore: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Index and candidates int64 [N, L] as `assign.assign` returns them, through [L, G] tensors in `dtype`."""
    where = locations(grids, strides, starts)
    x, y, level = where[:, 0, None].to(dtype), where[:, 1, None].to(dtype), where[:, 2].long()
    limits = torch.tensor([list(pair) for pair in ranges], dtype=dtype)
    half = torch.tensor([radius * stride for stride in strides], dtype=dtype)
    index = torch.full((len(offsets) - 1, len(where)), -1, dtype=torch.int64)
    candidates = torch.zeros_like(index)
    for image in range(len(offsets) - 1):
        begin, end = int(offsets[image]), int(offsets[image + 1])
        if begin == end or not len(where):
            continue
        own = boxes[begin:end].to(dtype)
        crowd = torch.zeros(end - begin, dtype=torch.bool) if ignore is None else ignore[begin:end]
        x0, y0, x1, y1 = own.unbind(1)
        sides = torch.stack([x - x0, y - y0, x1 - x, y1 - y])
        real = own.isfinite().all(1) & (x1 > x0) & (y1 > y0)
        inside = (sides.amin(0) > 0) & real
        lower, upper = limits[level].unbind(1)
        furthest = sides.amax(0)
        if inclusive:
            matched = inside & (furthest >= lower[:, None]) & (furthest <= upper[:, None])
        else:
            matched = inside & (furthest > lower[:, None]) & (furthest < upper[:, None])
        if radius > 0:
            reach = half[level][:, None]
            cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
            sub = [
                x - torch.maximum(cx - reach, x0),
                y - torch.maximum(cy - reach, y0),
                torch.minimum(cx + reach, x1) - x,
                torch.minimum(cy + reach, y1) - y,
            ]
            matched &= torch.stack(sub).amin(0) > 0
        matched &= ~crowd
        for location in range(len(where)):
            rows = matched[location].nonzero()[:, 0].tolist()
            areas = ((x1 - x0) * (y1 - y0)).tolist()
            candidates[image, location] = len(rows)
            if rows:
                index[image, location] = begin + min(rows, key=lambda row: (areas[row], row))
            elif (inside[location] & crowd).any() and not (inside[location] & ~crowd).any():
                index[image, location] = -2
    return index, candidates


def centerness(distance: Tensor) -> Tensor:
    """Centre-ness of distances [K, 4] l, t, r, b."""
    l, t, r, b = distance.unbind(1)  # noqa: E741
    across = torch.minimum(l, r) / torch.maximum(l, r)
    return (across * torch.minimum(t, b) / torch.maximum(t, b)).sqrt()


def box_loss(predicted: Tensor, target: Tensor, kind: str, smoothing: float = 0.0) -> Tensor:
    """[P] losses of boxes given by distances, through their corners."""
    px0, py0, px1, py1 = -predicted[:, 0], -predicted[:, 1], predicted[:, 2], predicted[:, 3]
    tx0, ty0, tx1, ty1 = -target[:, 0], -target[:, 1], target[:, 2], target[:, 3]
    shared = (torch.minimum(px1, tx1) - torch.maximum(px0, tx0)) * (torch.minimum(py1, ty1) - torch.maximum(py0, ty0))
    union = (px1 - px0) * (py1 - py0) + (tx1 - tx0) * (ty1 - ty0) - shared
    iou = (shared + smoothing) / (union + smoothing)
    if kind == "iou":
        return -iou.clamp(min=1e-12).log()
    hull_width = torch.maximum(px1, tx1) - torch.minimum(px0, tx0)
    hull_height = torch.maximum(py1, ty1) - torch.minimum(py0, ty0)
    loss = 1 - iou
    if kind == "giou":
        loss = loss + (hull_width * hull_height - union) / (hull_width * hull_height)
    if kind in ("diou", "ciou"):
        apart = ((px0 + px1) / 2 - (tx0 + tx1) / 2) ** 2 + ((py0 + py1) / 2 - (ty0 + ty1) / 2) ** 2
        loss = loss + apart / (hull_width**2 + hull_height**2)
    if kind == "ciou":
        turn = torch.atan2(tx1 - tx0, ty1 - ty0) - torch.atan2(px1 - px0, py1 - py0)
        v = 4 / math.pi**2 * turn**2
        alpha = (v / (1 - iou + v + 1e-7)).detach()
        loss = loss + alpha * v
    return loss


def focal_loss(logits: Tensor, target: Tensor, alpha: float, gamma: float) -> Tensor:
    """Elementwise focal loss of logits against a 0/1 target of the same shape."""
    signed = torch.where(target > 0, logits, -logits)
    weight = torch.where(target > 0, alpha, 1 - alpha)
    return -weight * (-signed).sigmoid() ** gamma * torch.nn.functional.logsigmoid(signed)


def detection_loss(
    class_logits: Sequence[Tensor],
    box_outputs: Sequence[Tensor],
    quality_logits: Sequence[Tensor] | None,
    scales: Tensor,
    *,
    index: Tensor,
    boxes: Tensor,
    labels: Tensor,
    strides: Sequence[int],
    starts: Sequence[int],
    units: Sequence[float],
    positives: Tensor,
    box_normalizer: Tensor,
    **choices: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    """The three losses as `loss.detection_loss` defines them, in the dtype of `scales`; permuted, joined, one-hot."""
    grids = [(x.shape[2], x.shape[3]) for x in class_logits]
    where = locations(grids, strides, starts)
    level = where[:, 2].long()
    logits, raw = (
        torch.cat([x.to(scales.dtype).permute(0, 2, 3, 1).flatten(1, 2) for x in outputs], dim=1)
        for outputs in (class_logits, box_outputs)
    )
    target = torch.zeros_like(logits)
    image, location = (index >= 0).nonzero(as_tuple=True)
    row = index[image, location].long()
    target[image, location, labels[row].long()] = 1
    focal = focal_loss(logits, target, choices["alpha"], choices["gamma"])
    classification = focal[index != -2].sum() / positives

    unit = torch.tensor(units, dtype=scales.dtype)[level[location]][:, None]
    wanted = boxes[row].to(scales.dtype)
    x, y = where[location, 0].to(scales.dtype), where[location, 1].to(scales.dtype)
    distance = torch.stack([x - wanted[:, 0], y - wanted[:, 1], wanted[:, 2] - x, wanted[:, 3] - y], dim=1) / unit
    output = raw[image, location] * scales[level[location]][:, None]
    predicted = output.clamp(max=40).exp() if choices["activation"] == "exp" else output.relu()
    center = centerness(distance)
    loss = box_loss(predicted, distance, choices["box_loss"], choices["iou_smoothing"])
    weight = center if choices["box_weight"] == "centerness" else torch.ones_like(center)
    box = (loss * weight).sum() / box_normalizer
    if quality_logits is None:
        return classification, box, box * 0
    quality = torch.cat([x.to(scales.dtype).flatten(1) for x in quality_logits], dim=1)[image, location]
    if choices["quality"] == "iou":
        center = 1 - box_loss(predicted, distance, "linear_iou").detach()
    bce = torch.nn.functional.binary_cross_entropy_with_logits(quality, center, reduction="sum")
    return classification, box, bce / positives


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
