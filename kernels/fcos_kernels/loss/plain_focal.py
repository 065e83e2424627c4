"""The focal loss in plain PyTorch, written for the CPU; also what a GPU runs where Triton is not used.

Every logit is first taken as background, chunk by chunk in a scratch that stays in the cache; the few positives are
then replaced. log(1 - p) is log1p(-p) where no p of the chunk exceeds 0.9, which is exact to rounding, else
-softplus(x).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from fcos_kernels.common.tensors import compute_dtype

CPU_CHUNK_PER_THREAD = 1 << 18
DEVICE_CHUNK = 1 << 24
LOG1P_LIMIT = 0.9


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
