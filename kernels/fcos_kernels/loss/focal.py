"""Focal loss on logits, summed, with its gradient in the same pass.

For a logit x with p = sigmoid(x) (Lin et al., arXiv 1708.02002; stable forms: docs/method.md, Losses):

    positive:   loss = -a (1 - p)^g log p              d = a (1 - p)^g (g p log p - (1 - p))
    background: loss = -(1 - a) p^g log(1 - p)         d = (1 - a) p^g (p - g (1 - p) log(1 - p))

Arithmetic in float32 (float64 for float64 logits); sums of parts are added in float64. Reads the logits once and writes
the gradient once. On a GPU a Triton kernel does it (`launch.py`), elsewhere plain PyTorch (`plain_focal.py`).
"""

from typing import Any

import torch
from torch import Tensor

from fcos_kernels.common import dispatch
from fcos_kernels.common.checks import LOGIT_DTYPES, check_labels, check_number, check_same_device, check_tensor
from fcos_kernels.common.tensors import compute_dtype
from fcos_kernels.loss.plain_focal import focal_sum
from fcos_kernels.loss.scale import refuse_second_use, times_incoming, without_second_derivative

INT32_RANGE = (-(2**31), 2**31 - 1)


def focal_loss(logits: Tensor, labels: Tensor, *, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Focal loss summed over all logits: a float32 scalar (float64 for float64 logits).

    Args:
        logits: [M, C] float32, bfloat16 or float16.
        labels: int32 or int64 [M]: the class of each row, -1 background, -2 left out. Triton does not look at the
            values before; what is out of range is background then.
        alpha: weight of the positives, 1 - alpha of the background.
        gamma: focusing exponent, >= 0.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, named.
    """
    check_tensor("logits", logits, LOGIT_DTYPES, [None, None])
    check_tensor("labels", labels, (torch.int32, torch.int64), [logits.shape[0]])
    check_same_device(logits, labels=labels)
    check_focal(alpha, gamma)
    with_gradient = torch.is_grad_enabled() and logits.requires_grad
    total: Tensor = _focal_loss(logits, labels, float(alpha), float(gamma), with_gradient)[0]
    return total


def check_focal(alpha: float, gamma: float) -> None:
    """Raise TypeError or ValueError unless 0 <= alpha <= 1 and 0 <= gamma < inf."""
    check_number("alpha", alpha)
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must be within 0..1, not {alpha}")
    check_number("gamma", gamma, least=0)


@torch.library.custom_op("fcos_kernels::focal_loss", mutates_args=())
def _focal_loss(
    logits: Tensor, labels: Tensor, alpha: float, gamma: float, with_gradient: bool
) -> tuple[Tensor, list[Tensor]]:
    """The sum, and the gradient where it is asked for."""
    logits = logits.contiguous()
    gradients = [torch.empty_like(logits)] if with_gradient else []
    if dispatch.use_triton(logits.device):
        from fcos_kernels.loss import launch

        if launch.supports_focal(logits):
            whole = labels.clamp(*INT32_RANGE).int() if labels.dtype == torch.int64 else labels
            return launch.launch_focal(logits, whole, alpha, gamma, *gradients), gradients
    check_labels("labels", labels, logits.shape[1], least=-2)
    rows = (labels >= 0).nonzero()[:, 0]
    ignored = labels == -2
    with torch.autocast(logits.device.type, enabled=False):
        total = focal_sum(
            logits,
            (rows, labels[rows].long()),
            ignored[:, None] if ignored.any() else None,
            alpha,
            gamma,
            torch.ones((), device=logits.device) if with_gradient else None,
            *gradients,
        )
    return total.to(compute_dtype(logits)), gradients


@_focal_loss.register_fake
def _(logits: Tensor, labels: Tensor, alpha: float, gamma: float, with_gradient: bool) -> tuple[Tensor, list[Tensor]]:
    total = logits.new_empty((), dtype=compute_dtype(logits))
    return total, [torch.empty_like(logits.contiguous())] if with_gradient else []


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, list[Tensor]]) -> None:
    _, gradients = output
    ctx.set_materialize_grads(False)
    ctx.mark_non_differentiable(*gradients)
    ctx.save_for_backward(*gradients)


def _backward(ctx: Any, incoming: Tensor | None, _: Any) -> tuple[Tensor | None, None, None, None, None]:
    refuse_second_use(ctx)
    saved = ctx.saved_tensors  # once: checkpointing unpacks a tensor a single time
    if incoming is None or not saved:
        return None, None, None, None, None
    with torch.no_grad():
        (gradient,) = times_incoming(ctx, saved, [incoming])
    return without_second_derivative(gradient), None, None, None, None


_focal_loss.register_autograd(_backward, setup_context=_setup_context)
