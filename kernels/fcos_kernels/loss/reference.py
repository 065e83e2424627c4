"""The losses once more, straight from their definitions: dense, small inputs only. Tests hold the others to it.

No float tricks, no closed-form gradients: autograd differentiates. In the dtype of the arguments: float64 where that is
the question.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcos_kernels.common.reference import centerness, locations


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
    """The three losses as `detection_loss` defines them, in the dtype of `scales`; permuted, joined, one-hot."""
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
