"""Focal loss on logits, summed, with its gradient in the same pass.

For a logit x with p = sigmoid(x) (Lin et al., arXiv 1708.02002; stable forms: fcos-spec section 4):

    positive:   loss = -a (1 - p)^g log p              d = a (1 - p)^g (g p log p - (1 - p))
    background: loss = -(1 - a) p^g log(1 - p)         d = (1 - a) p^g (p - g (1 - p) log(1 - p))

Every logit is first taken as background, chunk by chunk in a scratch that stays in the cache; the few positives are
then replaced. log(1 - p) is log1p(-p) where no p of the chunk exceeds 0.9, which is exact to
rounding, else -softplus(x). Reads the logits once and writes the gradient once. Arithmetic in float32 (float64 for
float64 logits); the sums of the chunks are added in float64. On a GPU a Triton kernel does it (`launch.py`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcos_kernels.common import dispatch
from fcos_kernels.common.checks import LOGIT_DTYPES, check_labels, check_number, check_same_device, check_tensor
from fcos_kernels.common.tensors import compute_dtype
from fcos_kernels.loss.scale import once, refuse_second_use, scale

CPU_CHUNK_PER_THREAD = 1 << 18
DEVICE_CHUNK = 1 << 24
LOG1P_LIMIT = 0.9
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
        (gradient,) = scale(ctx, saved, [incoming])
    return once(gradient), None, None, None, None


_focal_loss.register_autograd(_backward, setup_context=_setup_context)


def focal_sum(
    logits: Tensor,
    positives: tuple[Tensor, ...],
    ignored: Tensor | None,
    alpha: float,
    gamma: float,
    grad_scale: Tensor | None = None,
    grad: Tensor | None = None,
) -> Tensor:
    """Summed focal loss, a float64 scalar; with `grad_scale`, its gradient times that scalar goes to `grad`.

    Args:
        logits: any shape, dense in memory.
        positives: index tuple of the positive logits.
        ignored: bool, broadcastable to `logits`: left out, gradient 0.
        grad_scale: scalar on the logits' device.
        grad: as `torch.empty_like(logits)`.
    """
    total = background_sum(logits, ignored, alpha, gamma, background_scratch([logits]), grad_scale, grad)
    gain, slope = positive_terms(logits[positives].to(compute_dtype(logits)), alpha, gamma)
    if grad is not None and grad_scale is not None:
        grad[positives] = (slope * grad_scale).to(grad.dtype)
    return total + gain.sum(dtype=torch.float64)


def background_scratch(outputs: Sequence[Tensor]) -> Tensor:
    """Room for three chunks, for `background_sum` of each of these: a fresh page of memory costs as much as its use."""
    x = outputs[0]
    chunk = CPU_CHUNK_PER_THREAD * torch.get_num_threads() if x.device.type == "cpu" else DEVICE_CHUNK
    largest = max(each.numel() for each in outputs)
    return torch.empty(3, max(min(chunk, largest), 1), dtype=compute_dtype(x), device=x.device)


def background_sum(
    logits: Tensor,
    ignored: Tensor | None,
    alpha: float,
    gamma: float,
    scratch: Tensor,
    grad_scale: Tensor | None = None,
    grad: Tensor | None = None,
) -> Tensor:
    """As `focal_sum`, with every logit taken as background."""
    if ignored is not None:
        # -inf is background with loss 0 and gradient 0; the gradient's buffer holds the masked logits until then
        logits = (logits.clone() if grad is None else grad.copy_(logits)).masked_fill_(ignored, -torch.inf)
    scale = None if grad_scale is None else grad_scale * (1 - alpha)
    line = None if grad is None else _line(grad)
    return _background(_line(logits), line, gamma, scale, scratch) * (1 - alpha)


def positive_terms(chosen: Tensor, alpha: float, gamma: float) -> tuple[Tensor, Tensor]:
    """Of positive logits: what the loss of each is more than that of a background, and the loss's derivative."""
    log_p, log_q = torch.nn.functional.logsigmoid(chosen), torch.nn.functional.logsigmoid(-chosen)
    p, q = chosen.sigmoid(), chosen.neg().sigmoid()
    weight = alpha * q**gamma
    return (1 - alpha) * p**gamma * log_q - weight * log_p, weight * (gamma * p * log_p - q)


def _line(tensor: Tensor) -> Tensor:
    """The elements of a dense tensor as one line in the order of memory, without a copy."""
    return tensor.view(-1) if tensor.is_contiguous() else tensor.permute(0, 2, 3, 1).view(-1)


def _background(logits: Tensor, grad: Tensor | None, gamma: float, scale: Tensor | None, scratch: Tensor) -> Tensor:
    """Sum of -p^g log(1 - p) over a line of logits, float64 scalar; writes its derivative times `scale` into `grad`.

    With w = p^g and t = w log(1 - p) the derivative is p w - g (1 - p) t.
    """
    dtype, chunk = scratch.dtype, scratch.shape[1]
    on_cpu = logits.device.type == "cpu"
    total = torch.zeros((), dtype=torch.float64, device=logits.device)
    for begin in range(0, logits.numel(), chunk):
        x = logits[begin : begin + chunk]
        p, t, weight = scratch[:, : len(x)].unbind()
        x = x if x.dtype == dtype else weight.copy_(x)
        torch.sigmoid(x, out=p)
        if on_cpu and p.amax() <= LOG1P_LIMIT:
            torch.neg(p, out=t).log1p_()
        else:
            torch.ops.aten.softplus.out(x, out=t).neg_()
        if gamma == 2:
            torch.mul(p, p, out=weight)
        else:
            torch.pow(p, gamma, out=weight)
        total -= t.mul_(weight).sum()
        if grad is not None and scale is not None:
            part, slope, scale_by = grad[begin : begin + chunk], p, scale
            if gamma > 0:
                slope = t.addcmul_(p, t, value=-1).addcmul_(p, weight, value=-1 / gamma)
                scale_by = -gamma * scale
            if part.dtype == dtype:
                torch.mul(slope, scale_by, out=part)
            else:
                part.copy_(slope.mul_(scale_by))  # with out= a product of another dtype has a buffer of its own
    return total
