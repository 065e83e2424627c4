"""Box losses of pairs of boxes that share a location, with closed-form gradients.

A box is its distances l, t, r, b from the location. With w = l + r, h = t + b and s the smoothing (official FCOS: 1):

    I = (min(l, l') + min(r, r')) (min(t, t') + min(b, b'))      U = w h + w' h' - I      J = (I + s) / (U + s)
    cw = max(l, l') + max(r, r')     ch = max(t, t') + max(b, b')     C = cw ch
    iou:        -log max(J, 1e-12)                                   (UnitBox, arXiv 1608.01471)
    linear_iou: 1 - J
    giou:       1 - J + (C - U) / C                                  (arXiv 1902.09630)
    diou:       1 - J + d / c                                        (arXiv 1911.08287)
                d = ((r - l) - (r' - l'))^2 / 4 + the same of b - t: squared distance of the centres; c = cw^2 + ch^2
    ciou:       diou + a v,   v = 4 / pi^2 (atan(w' / h') - atan(w / h))^2,   a = v / (1 - J + v + 1e-7), a constant

Below the floor of -log J the gradient is 0. Where two distances are equal, min and max pass half of the gradient on.
All is finite for distances from 0 to 1e17 against targets from 1e-12 to 1e17: areas that float32 holds.
"""

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fcos_kernels.common.checks import LOGIT_DTYPES, check_choice, check_number, check_same_device, check_tensor
from fcos_kernels.common.tensors import compute_dtype
from fcos_kernels.loss.scale import times, without_second_derivative

KINDS = ("iou", "linear_iou", "giou", "diou", "ciou")
IOU_FLOOR = 1e-12
ALPHA_FLOOR = 1e-7
SQUARE_FLOOR = 1e-12


class BoxTerms(NamedTuple):
    """loss [P]; gradient [P, 4] of each loss by its predicted distances; iou [P], without smoothing."""

    loss: Tensor
    gradient: Tensor
    iou: Tensor


def box_loss(
    predicted: Tensor, target: Tensor, kind: str = "giou", *, weights: Tensor | None = None, smoothing: float = 0.0
) -> Tensor:
    """Box loss summed over pairs: a float32 scalar (float64 for float64 boxes), differentiable in `predicted`.

    Args:
        predicted: [P, 4] distances l, t, r, b >= 0, any unit; float32, bfloat16 or float16.
        target: [P, 4] distances > 0 in the same unit.
        kind: iou (-log IoU), linear_iou, giou, diou or ciou.
        weights: [P] factor of each pair's loss.
        smoothing: added to intersection and union.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or name.
    """
    check_tensor("predicted", predicted, LOGIT_DTYPES, [None, 4])
    check_tensor("target", target, LOGIT_DTYPES, [predicted.shape[0], 4])
    if weights is not None:
        check_tensor("weights", weights, LOGIT_DTYPES, [predicted.shape[0]])
    check_same_device(predicted, target=target, weights=weights)
    check_choice("kind", kind, KINDS)
    check_number("smoothing", smoothing, least=0)
    total: Tensor = _BoxLoss.apply(predicted, target, kind, weights, smoothing)
    return total


class _BoxLoss(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, predicted: Tensor, target: Tensor, kind: str, weights: Tensor | None, smoothing: float
    ) -> Tensor:
        dtype = compute_dtype(predicted)
        with torch.autocast(predicted.device.type, enabled=False):
            terms = box_terms(predicted.to(dtype), target.to(dtype), kind, smoothing)
            factor = torch.ones_like(terms.loss) if weights is None else weights.to(dtype)
            ctx.save_for_backward((terms.gradient * factor.unsqueeze(1)).to(predicted.dtype))
            return (terms.loss * factor).sum(dtype=torch.float64).to(dtype)

    @staticmethod
    def backward(ctx: Any, incoming: Tensor) -> tuple[Tensor, None, None, None, None]:
        (grad,) = ctx.saved_tensors
        with torch.no_grad():
            gradient = times(grad, incoming)
        return without_second_derivative(gradient), None, None, None, None


def box_terms(predicted: Tensor, target: Tensor, kind: str, smoothing: float) -> BoxTerms:
    """Loss, gradient and plain IoU of each pair of boxes [P, 4]; float32 or float64."""
    # no indexing by brackets: that wants a real device, and a compiler's stand-in has none
    first, last = predicted.chunk(2, dim=1)
    target_first, target_last = target.chunk(2, dim=1)
    size, target_size = first + last, target_first + target_last
    shared = torch.minimum(first, target_first) + torch.minimum(last, target_last)
    hull = torch.maximum(first, target_first) + torch.maximum(last, target_last)
    # d min(p, t) / dp: 1 where the prediction is the smaller, 1/2 where they are equal
    low = torch.heaviside(target - predicted, predicted.new_full((), 0.5))

    intersection = shared.prod(1, keepdim=True)
    union = size.prod(1, keepdim=True) + target_size.prod(1, keepdim=True) - intersection
    d_intersection = low * _across(shared)
    d_union = _across(size) - d_intersection
    plain = intersection / union
    iou = (intersection + smoothing) / (union + smoothing)
    d_iou = (d_intersection - iou * d_union) / (union + smoothing)

    if kind == "iou":
        floored = iou.clamp(min=IOU_FLOOR)
        gradient = torch.where(iou >= IOU_FLOOR, -d_iou / floored, 0.0)
        return BoxTerms(-floored.log().squeeze(1), gradient, plain.squeeze(1))
    loss, gradient = 1 - iou, -d_iou
    if kind == "giou":
        area = hull.prod(1, keepdim=True)
        filled = union / area
        loss = loss + 1 - filled
        gradient = gradient - (d_union - filled * (1 - low) * _across(hull)) / area
    elif kind in ("diou", "ciou"):
        apart = ((last - first) - (target_last - target_first)) / 2
        diagonal = hull.square().sum(1, keepdim=True)
        ratio = apart.square().sum(1, keepdim=True) / diagonal
        d_diagonal = 2 * (1 - low) * hull.repeat(1, 2)
        loss = loss + ratio
        gradient = gradient + (torch.cat([-apart, apart], dim=1) - ratio * d_diagonal) / diagonal
    if kind == "ciou":
        width, height = size.chunk(2, dim=1)
        target_width, target_height = target_size.chunk(2, dim=1)
        turn = torch.atan2(target_width, target_height) - torch.atan2(width, height)
        v = (4 / math.pi**2) * turn.square()
        alpha = v / (1 - iou + v + ALPHA_FLOOR)
        slope = (-8 / math.pi**2) * alpha * turn / (width.square() + height.square()).clamp(min=SQUARE_FLOOR)
        loss = loss + alpha * v
        gradient = gradient + (slope * torch.cat([height, -width], dim=1)).repeat(1, 2)
    return BoxTerms(loss.squeeze(1), gradient, plain.squeeze(1))


def _across(sides: Tensor) -> Tensor:
    """[P, 4] the other side's length of [P, 2] (w, h): the area's derivative by l, t, r, b."""
    return sides.flip(1).repeat(1, 2)
