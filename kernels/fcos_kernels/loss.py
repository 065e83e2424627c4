"""The three losses of FCOS and their gradients, straight from the head's outputs, level by level.

    classification = sum of focal losses over all locations that are not ignored / positives          (focal_loss.py)
    box            = sum over positives of weight * box loss(predicted, target) / box_normalizer      (box_loss.py)
    quality        = sum over positives of softplus(q) - y q / positives                              (BCE with logits)

Predicted distances are exp(min(s x, 40)) or min(max(s x, 0), e^40), in float32, in `units` pixels: e^40 is beyond every
image, and its square, an area, is still a finite float32; the gradient beyond it is 0. Target distances are recomputed
from the box that `index` names, in the same unit. y is the centre-ness target or the plain IoU (a constant). FCOS,
arXiv 1904.01355, equation 2; constants: fcos-spec sections 3 and 4.

The forward pass computes the gradients: of the class logits one dense buffer in their dtype and memory format, of box
and quality outputs only the rows of the positives, in float32. The backward pass scales them by the incoming gradients.
Bytes that must move: the logits once, their gradient once.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fcos_kernels.box_loss import box_loss, box_terms, check_box_loss
from fcos_kernels.checks import (
    check_choice,
    check_levels,
    check_outputs,
    check_positive,
    check_same_device,
    check_tensor,
)
from fcos_kernels.focal_loss import check_focal, compute_dtype, dense, focal_loss, focal_sum, scaled
from fcos_kernels.locations import centerness, distances, positives_by_level, split_locations

__all__ = ["DetectionLosses", "activate", "box_loss", "detection_loss", "focal_loss"]

MAX_EXPONENT = 40.0
MAX_DISTANCE = math.exp(MAX_EXPONENT)
# float16 gradients wait unnormalised, times this, for the incoming gradient: divided by N_pos most would be 0
FLOAT16_GAIN = 2.0**13


class DetectionLosses(NamedTuple):
    """Scalars on the logits' device, float32, each divided by its normaliser."""

    classification: Tensor
    box: Tensor
    quality: Tensor


class _Settings(NamedTuple):
    """What does not carry a gradient and is not a tensor."""

    levels: int
    strides: Sequence[int]
    starts: Sequence[int]
    units: Sequence[float]
    activation: str
    box_loss: str
    box_weight: str
    iou_smoothing: float
    quality: str
    alpha: float
    gamma: float


class _Like(NamedTuple):
    """Enough of a tensor to make zeros like it."""

    shape: torch.Size
    stride: tuple[int, ...]
    dtype: torch.dtype

    @staticmethod
    def of(tensor: Tensor) -> "_Like":
        return _Like(tensor.shape, dense(tensor).stride(), tensor.dtype)

    def scatter(self, image: Tensor, y: Tensor, x: Tensor, rows: Tensor) -> Tensor:
        """Zeros with `rows` [P, channels] at the given cells."""
        full = torch.empty_strided(self.shape, self.stride, dtype=self.dtype, device=rows.device).zero_()
        full[image, :, y, x] = rows.to(self.dtype)
        return full


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
    activation: str,
    box_loss: str,
    box_weight: str,
    iou_smoothing: float,
    quality: str,
    alpha: float,
    gamma: float,
    positives: Tensor,
    box_normalizer: Tensor,
) -> DetectionLosses:
    """Classification, box and quality loss of a batch; differentiable in the outputs and in `scales`.

    Args:
        class_logits: per level [N, C, H, W], contiguous or channels-last, float32, bfloat16 or float16.
        box_outputs: per level [N, 4, H, W]: l, t, r, b before scale and activation.
        quality_logits: per level [N, 1, H, W], or None with quality "none".
        scales: float32 [levels], the trained factor of each level's box output.
        index: int32 [N, L], row of `boxes` each location learns, -1 background, -2 left out of the focal loss.
        boxes, labels: float32 [T, 4] xyxy in input pixels; int32 [T] class of each box.
        strides, starts: per level, pixels between locations and coordinate of the first.
        units: per level, pixels of a distance of 1: the stride where targets are normalised, else 1.
        activation: "exp" or "relu".
        box_loss: "iou", "linear_iou", "giou", "diou" or "ciou".
        box_weight: "centerness" weights each positive by its centre-ness target, "none" equally.
        iou_smoothing: added to intersection and union, in square units.
        quality: what the branch learns: "centerness" or "iou"; "none" where there is no branch.
        alpha, gamma: of the focal loss.
        positives, box_normalizer: scalars on the device, above 0 (counted, all-reduced and floored by the caller).

    Returns:
        Three scalars. Without positives, box and quality are exactly 0 and connected to the graph.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or name.
    """
    levels = len(class_logits)
    check_levels(class_logits=class_logits, box_outputs=box_outputs, strides=strides, starts=starts, units=units)
    check_choice("activation", activation, ("exp", "relu"))
    check_choice("box_weight", box_weight, ("centerness", "none"))
    check_choice("quality", quality, ("centerness", "iou", "none"))
    check_box_loss(box_loss, iou_smoothing)
    check_focal(alpha, gamma)
    check_positive("strides", strides)
    check_positive("units", units)
    if (quality == "none") != (quality_logits is None):
        raise ValueError(f"quality_logits must be {'None' if quality == 'none' else 'given'} with quality {quality!r}")
    quality_outputs = [] if quality_logits is None else list(quality_logits)
    check_outputs(class_logits, box_outputs, quality_logits)
    check_tensor("scales", scales, (torch.float32, torch.float64), [levels])
    locations = sum(x.shape[2] * x.shape[3] for x in class_logits)
    check_tensor("index", index, torch.int32, [class_logits[0].shape[0], locations])
    check_tensor("boxes", boxes, torch.float32, [None, 4])
    check_tensor("labels", labels, torch.int32, [len(boxes)])
    device = class_logits[0].device
    positives = torch.as_tensor(positives, device=device)
    box_normalizer = torch.as_tensor(box_normalizer, device=device)
    check_same_device(class_logits[0], scales=scales, index=index, boxes=boxes, labels=labels)
    settings = _Settings(
        levels, strides, starts, units, activation, box_loss, box_weight, iou_smoothing, quality, alpha, gamma
    )
    outputs = _DetectionLoss.apply(
        settings, index, boxes, labels, positives, box_normalizer, scales, *class_logits, *box_outputs, *quality_outputs
    )
    return DetectionLosses(*outputs)


def activate(scaled_outputs: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """Distances in units from outputs times their scale, and the derivative; both float32 (float64), finite."""
    if activation == "exp":
        distance = scaled_outputs.clamp(max=MAX_EXPONENT).exp()
        return distance, torch.where(scaled_outputs <= MAX_EXPONENT, distance, 0.0)
    distance = scaled_outputs.clamp(0, MAX_DISTANCE)
    return distance, ((scaled_outputs > 0) & (scaled_outputs <= MAX_DISTANCE)).to(distance.dtype)


class _DetectionLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        settings: _Settings,
        index: Tensor,
        boxes: Tensor,
        labels: Tensor,
        positives: Tensor,
        box_normalizer: Tensor,
        scales: Tensor,
        *outputs: Tensor,
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.set_materialize_grads(False)
        with torch.autocast(index.device.type, enabled=False):
            return _forward(ctx, settings, index, boxes, labels, positives, box_normalizer, scales, outputs)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(
        ctx: Any, for_class: Tensor | None, for_box: Tensor | None, for_quality: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        saved = list(ctx.saved_tensors)
        box_rows, quality_rows, scale_grad, positives = saved[:4]
        cells, class_grads = saved[4 : 4 + 3 * ctx.levels], saved[4 + 3 * ctx.levels :]
        cells_of = [cells[3 * level : 3 * level + 3] for level in range(ctx.levels)]
        counts = [len(image) for image, _, _ in cells_of]

        grads: list[Tensor | None] = []
        for grad in class_grads:
            if grad is None or for_class is None:
                grads.append(None)
            elif grad.dtype == torch.float16:
                grads.append(scaled(grad, for_class.float() / (positives * FLOAT16_GAIN)))
            else:
                grads.append(scaled(grad, for_class))
        for like, rows, incoming in ((ctx.box_like, box_rows, for_box), (ctx.quality_like, quality_rows, for_quality)):
            if incoming is None or not like:
                grads.extend([None] * len(like))
                continue
            for place, cell, part in zip(like, cells_of, (rows * incoming).split(counts), strict=True):
                grads.append(place.scatter(*cell, part))
        for_scales = None if for_box is None else scale_grad * for_box
        return None, None, None, None, None, None, for_scales, *grads


def _forward(
    ctx: Any,
    settings: _Settings,
    index: Tensor,
    boxes: Tensor,
    labels: Tensor,
    positives: Tensor,
    box_normalizer: Tensor,
    scales: Tensor,
    outputs: tuple[Tensor, ...],
) -> tuple[Tensor, Tensor, Tensor]:
    levels = settings.levels
    class_logits, box_outputs, quality_logits = (outputs[i * levels : (i + 1) * levels] for i in range(3))
    dtype = compute_dtype(class_logits[0])
    grids = [(x.shape[2], x.shape[3]) for x in class_logits]
    found = positives_by_level(index, grids)
    cells = []
    raw, target, qualities = [], [], []
    class_total = torch.zeros((), dtype=torch.float64, device=index.device)
    class_grads: list[Tensor | None] = []
    any_ignored = bool((index == -2).any())
    begin = 0
    for level, (image, location, row) in enumerate(found):
        rows, columns = grids[level]
        y, x = torch.div(location, max(columns, 1), rounding_mode="floor"), location % max(columns, 1)
        cells.append((image, y, x))
        logits = class_logits[level]
        grad_scale = None
        if ctx.needs_input_grad[7 + level]:
            half = logits.dtype == torch.float16
            grad_scale = index.new_full((), FLOAT16_GAIN, dtype=dtype) if half else positives.to(dtype).reciprocal()
        ignored = None
        if any_ignored:
            ignored = (index[:, begin : begin + rows * columns] == -2).view(-1, 1, rows, columns)
        part, grad = focal_sum(
            logits, (image, labels[row].long(), y, x), ignored, settings.alpha, settings.gamma, grad_scale
        )
        class_total += part
        class_grads.append(grad)
        begin += rows * columns

        raw.append(box_outputs[level][image, :, y, x].to(dtype))
        place = split_locations(location, max(columns, 1), settings.strides[level], settings.starts[level])
        target.append(distances(boxes[row], *place).to(dtype) / settings.units[level])
        if quality_logits:
            qualities.append(quality_logits[level][image, 0, y, x].to(dtype))

    counts = [len(part) for part in raw]
    raw_P4, target_P4 = torch.cat(raw), torch.cat(target)
    scale_P1 = scales.to(dtype).repeat_interleave(torch.tensor(counts, device=scales.device))[:, None]
    predicted_P4, slope_P4 = activate(raw_P4 * scale_P1, settings.activation)
    terms = box_terms(predicted_P4, target_P4, settings.box_loss, settings.iou_smoothing)
    center_P = centerness(target_P4)
    weight_P = center_P if settings.box_weight == "centerness" else torch.ones_like(center_P)
    box_total = (terms.loss * weight_P).sum(dtype=torch.float64) / box_normalizer
    inner_P4 = terms.gradient * slope_P4 * (weight_P / box_normalizer.to(dtype))[:, None]
    scale_grad = torch.stack([part.sum() for part in (inner_P4 * raw_P4).split(counts)]).to(scales.dtype)

    quality_rows = quality_total = raw_P4.new_zeros(0)
    if quality_logits:
        q_P = torch.cat(qualities)
        y_P = center_P if settings.quality == "centerness" else terms.iou
        quality_total = (torch.nn.functional.softplus(q_P) - y_P * q_P).sum(dtype=torch.float64)
        quality_rows = ((q_P.sigmoid() - y_P) / positives.to(dtype))[:, None]

    ctx.levels = levels
    ctx.box_like = [_Like.of(x) for x in box_outputs]
    ctx.quality_like = [_Like.of(x) for x in quality_logits]
    flat_cells = [part for cell in cells for part in cell]
    ctx.save_for_backward(inner_P4 * scale_P1, quality_rows, scale_grad, positives, *flat_cells, *class_grads)
    quality_sum = quality_total.sum() / positives
    return (class_total / positives).to(dtype), box_total.to(dtype), quality_sum.to(dtype)
