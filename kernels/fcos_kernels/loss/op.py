"""The three losses of FCOS and their gradients, straight from the head's outputs, level by level.

    classification = sum of focal losses over all locations that are not ignored / positives          (focal.py)
    box            = sum over positives of weight * box loss(predicted, target) / box_normalizer      (box.py)
    quality        = sum over positives of softplus(q) - y q / positives                              (BCE with logits)

Predicted distances are exp(min(s x, 40)) or min(max(s x, 0), e^40), in float32, in `units` pixels: e^40 is beyond every
image, and its square, an area, is still a finite float32; the gradient beyond it is 0. Target distances are recomputed
from the box that `index` names, in the same unit. y is the centre-ness target or the plain IoU (a constant). FCOS,
arXiv 1904.01355, equation 2; constants: docs/method.md, Outputs and targets, Losses.

The forward pass computes the gradients, dense, in the memory format of the outputs; the backward pass scales them by
the incoming gradients (`scale.py`). Bytes that must move: the logits once, their gradient once. On a GPU all
levels are one Triton launch, and a second one adds up (`launch.py`); the CPU runs plain PyTorch (`plain.py`).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fcos_kernels.common import dispatch
from fcos_kernels.common.checks import (
    check_choice,
    check_levels,
    check_locations,
    check_number,
    check_outputs,
    check_positive,
    check_same_device,
    check_tensor,
    check_whole,
)
from fcos_kernels.common.outputs import Outputs, activate
from fcos_kernels.common.tensors import compute_dtype
from fcos_kernels.loss import plain
from fcos_kernels.loss.box import KINDS, box_loss
from fcos_kernels.loss.focal import check_focal, focal_loss
from fcos_kernels.loss.scale import refuse_second_use, times_incoming, without_second_derivative
from fcos_kernels.loss.types import AssignedTargets, Gradients, Settings

__all__ = ["DetectionLosses", "activate", "box_loss", "detection_loss", "focal_loss"]


class DetectionLosses(NamedTuple):
    """Scalars on the logits' device, float32, each divided by its normaliser."""

    classification: Tensor
    box: Tensor
    quality: Tensor


def detection_loss(
    class_logits: Sequence[Tensor],
    box_outputs: Sequence[Tensor],
    quality_logits: Sequence[Tensor] | None,
    scales: Tensor | None = None,
    *,
    index: Tensor,
    boxes: Tensor,
    labels: Tensor,
    strides: Sequence[int],
    starts: Sequence[int] | None = None,
    units: Sequence[float] | None = None,
    activation: str = "exp",
    box_loss: str = "iou",
    box_weight: str = "centerness",
    iou_smoothing: float = 1.0,
    quality: str | None = None,
    alpha: float = 0.25,
    gamma: float = 2.0,
    positives: Tensor | None = None,
    box_normalizer: Tensor | None = None,
) -> DetectionLosses:
    """Classification, box and quality loss of a batch; differentiable in the outputs and in `scales`.

    The defaults are the paper's, with the constants of the authors' code (docs/method.md, Losses).

    Args:
        class_logits: per level [N, C, H, W], contiguous or channels-last, float32, bfloat16 or float16.
        box_outputs: per level [N, 4, H, W]: l, t, r, b before scale and activation.
        quality_logits: per level [N, 1, H, W], or None with quality "none".
        scales: float32 [levels], the trained factor of each level's box output; without it 1.
        index: int32 [N, L], row of `boxes` each location learns, -1 background, -2 left out of the focal loss.
        boxes, labels: float32 [T, 4] xyxy in input pixels; int32 [T] class of each box. Triton does not look at values
            before: a row that does not exist is background then, a class background of the focal loss; elsewhere it is
            an error.
        strides, starts: per level, pixels between locations and coordinate of the first, half a stride if not given.
        units: per level, pixels of a distance of 1: the stride where targets are normalised, else 1 (if not given).
        activation: "exp" or "relu".
        box_loss: "iou", "linear_iou", "giou", "diou" or "ciou".
        box_weight: "centerness" weights each positive by its centre-ness target, "none" equally.
        iou_smoothing: added to intersection and union, in square units.
        quality: what the branch learns: "centerness" or "iou"; "none" where there is no branch. If not given,
            "centerness" where there are `quality_logits`.
        alpha, gamma: of the focal loss.
        positives, box_normalizer: float32 scalars on the device, above 0: counted, summed over devices, floored. If not
            given, positives are those of `index`, at least 1, and where all weigh equally normalise the box loss, too;
            with centre-ness weights that is for the sum of the targets, as `assign` returns it, floored at 1e-6.

    Returns:
        Three scalars. Without positives, box and quality are exactly 0 and connected to the graph.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or name.
    """
    check_levels(class_logits=class_logits, box_outputs=box_outputs, strides=strides)
    check_whole("strides", strides)
    starts = [stride // 2 for stride in strides] if starts is None else starts
    units = [1.0] * len(strides) if units is None else units
    check_levels(class_logits=class_logits, starts=starts, units=units)
    if quality is None:
        quality = "none" if quality_logits is None else "centerness"
    check_choice("activation", activation, ("exp", "relu"))
    check_choice("box_weight", box_weight, ("centerness", "none"))
    check_choice("quality", quality, ("centerness", "iou", "none"))
    check_choice("box_loss", box_loss, KINDS)
    check_number("iou_smoothing", iou_smoothing, least=0)
    check_focal(alpha, gamma)
    check_positive("units", units)
    if (quality == "none") != (quality_logits is None):
        raise ValueError(f"quality_logits must be {'None' if quality == 'none' else 'given'} with quality {quality!r}")
    quality_outputs = [] if quality_logits is None else list(quality_logits)
    check_outputs(class_logits, box_outputs, quality_logits)
    check_locations([(x.shape[2], x.shape[3]) for x in class_logits], strides, starts)
    if scales is None:
        scales = torch.ones(len(class_logits), device=class_logits[0].device)
    check_tensor("scales", scales, (torch.float32, torch.float64), [len(class_logits)])
    locations = sum(x.shape[2] * x.shape[3] for x in class_logits)
    check_tensor("index", index, torch.int32, [class_logits[0].shape[0], locations])
    check_tensor("boxes", boxes, torch.float32, [None, 4])
    check_tensor("labels", labels, torch.int32, [boxes.shape[0]])
    if box_normalizer is None and box_weight == "centerness":
        raise ValueError(
            "box_normalizer must be given with box_weight 'centerness': assign(...).centerness_sum.clamp(min=1e-6)"
        )
    if positives is None:
        positives = (index >= 0).sum().clamp(min=1).float()
    if box_normalizer is None:
        box_normalizer = positives
    for name, value in (("positives", positives), ("box_normalizer", box_normalizer)):
        check_tensor(name, value, (torch.float32, torch.float64), [])
    check_same_device(
        class_logits[0],
        scales=scales,
        index=index,
        boxes=boxes,
        labels=labels,
        positives=positives,
        box_normalizer=box_normalizer,
    )
    with_grad = torch.is_grad_enabled()
    rest = [*box_outputs, *quality_outputs, scales]
    losses = _detection_loss(
        list(class_logits),
        list(box_outputs),
        quality_outputs,
        scales,
        index,
        boxes,
        labels,
        positives,
        box_normalizer,
        list(strides),
        list(starts),
        [float(unit) for unit in units],
        activation,
        box_loss,
        box_weight,
        float(iou_smoothing),
        quality,
        float(alpha),
        float(gamma),
        with_grad and any(x.requires_grad for x in class_logits),
        with_grad and any(x.requires_grad for x in rest),
    )
    return DetectionLosses(*losses[:3])


@torch.library.custom_op("fcos_kernels::detection_loss", mutates_args=())
def _detection_loss(
    class_logits: Sequence[Tensor],
    box_outputs: Sequence[Tensor],
    quality_logits: Sequence[Tensor],
    scales: Tensor,
    index: Tensor,
    boxes: Tensor,
    labels: Tensor,
    positives: Tensor,
    box_normalizer: Tensor,
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
    for_classes: bool,
    for_boxes: bool,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    """The losses, and `Gradients.flat` of those asked for: of the class logits, of all else."""
    outputs = Outputs(list(class_logits), list(box_outputs), list(quality_logits), scales).dense()
    targets = AssignedTargets(index, boxes, labels, positives, box_normalizer)
    settings = Settings(strides, starts, units, activation, box_loss, box_weight, iou_smoothing, quality, alpha, gamma)
    gradients = Gradients.empty(outputs, for_classes, for_boxes)
    if dispatch.use_triton(index.device):
        from fcos_kernels.loss import launch

        if launch.supports(outputs, len(boxes)):
            a, b, c = launch.launch(outputs, targets, settings, gradients)
            return a, b, c, gradients.flat()
    with torch.autocast(index.device.type, enabled=False):
        a, b, c = plain.losses(outputs, targets, settings, gradients)
    return a, b, c, gradients.flat()


@_detection_loss.register_fake
def _fake(
    class_logits: Sequence[Tensor],
    box_outputs: Sequence[Tensor],
    quality_logits: Sequence[Tensor],
    scales: Tensor,
    *others: Any,
) -> tuple[Tensor, Tensor, Tensor, list[Tensor]]:
    *_, for_classes, for_boxes = others
    outputs = Outputs(list(class_logits), list(box_outputs), list(quality_logits), scales).dense()
    a, b, c = (class_logits[0].new_empty((), dtype=compute_dtype(class_logits[0])) for _ in range(3))
    return a, b, c, Gradients.empty(outputs, for_classes, for_boxes).flat()


# place of `scales` among the arguments, after class logits, box outputs and qualities
_SCALES = 3


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor, Tensor, list[Tensor]]) -> None:
    *groups, scales = inputs[:4]
    positives, gradients = inputs[7], output[3]
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*gradients)
    ctx.save_for_backward(positives, *gradients)
    ctx.sizes = [len(group) for group in groups]
    wanted = (inputs[-2], inputs[-1], inputs[-1])
    ctx.places = [
        (which, level, x.dtype) for which, group in enumerate(groups) if wanted[which] for level, x in enumerate(group)
    ]
    if inputs[-1]:
        ctx.places.append((_SCALES, 0, scales.dtype))


def _backward(
    ctx: Any, for_class: Tensor | None, for_box: Tensor | None, for_quality: Tensor | None, _: Any
) -> tuple[Any, ...]:
    refuse_second_use(ctx)
    by_group = _gradients(ctx, (for_class, for_box, for_quality, for_box))
    *per_level, (for_scales,) = [
        [None if x is None else without_second_derivative(x) for x in group] for group in by_group
    ]
    return *per_level, for_scales, *[None] * 17


@torch.no_grad()
def _gradients(ctx: Any, incoming: Sequence[Tensor | None]) -> list[list[Tensor | None]]:
    """The gradients of class logits, box outputs, qualities and scales; `incoming` has one for each of these."""
    positives, *buffers = ctx.saved_tensors
    by_group: list[list[Tensor | None]] = [[None] * size for size in (*ctx.sizes, 1)]
    places, chosen, factors = [], [], []
    for (which, level, dtype), buffer in zip(ctx.places, buffers, strict=True):
        factor = incoming[which]
        if factor is None:
            continue
        if which == _SCALES or buffer.dtype != dtype:  # a few numbers; float32 for float16
            by_group[which][level] = (buffer * factor).to(dtype)
        else:
            places.append((which, level))
            chosen.append(buffer)
            factors.append(factor)
    for (which, level), gradient in zip(places, times_incoming(ctx, chosen, factors, positives), strict=True):
        by_group[which][level] = gradient
    return by_group


_detection_loss.register_autograd(_backward, setup_context=_setup_context)
