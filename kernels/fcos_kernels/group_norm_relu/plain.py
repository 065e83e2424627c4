"""GroupNorm and ReLU in plain PyTorch, level by level: `native.py` on a CPU, the formula of `op.py` elsewhere."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fcos_kernels.common.tensors import compute_dtype
from fcos_kernels.group_norm_relu import native
from fcos_kernels.group_norm_relu.native import affine, each_channel, input_slopes


def forward(
    inputs: Sequence[Tensor], weight: Tensor, bias: Tensor, groups: int, eps: float
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Outputs, mean and rstd [levels, N, G] of inputs of one memory format."""
    dtype = compute_dtype(inputs[0])
    by_level = [_level_forward(x, weight.to(dtype), bias.to(dtype), groups, eps) for x in inputs]
    outputs, means, rstds = zip(*by_level, strict=True)
    return list(outputs), torch.stack(means), torch.stack(rstds)


def backward(
    incoming: Sequence[Tensor],
    inputs: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    rstd: Tensor,
    eps: float,
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Gradients of the inputs, of weight and of bias; `incoming` are laid out as the inputs are."""
    parameters = weight.to(mean.dtype), bias.to(mean.dtype)
    levels = zip(incoming, inputs, mean.unbind(), rstd.unbind(), strict=True)
    by_level = [
        _level_backward(dy, x, *parameters, level_mean, level_rstd, eps) for dy, x, level_mean, level_rstd in levels
    ]
    by_weight, by_bias = (torch.stack([each[which] for each in by_level]).sum(0) for which in (1, 2))
    return [dx for dx, _, _ in by_level], by_weight, by_bias


def _level_forward(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Output, mean and rstd [N, G] of one level; an empty one has none of it."""
    if not x.numel():
        mean, rstd = weight.new_zeros(2, len(x), groups).unbind()
        return torch.empty_like(x), mean, rstd
    forward = native.forward if x.device.type == "cpu" else formula_forward
    return forward(x, weight, bias, groups, eps)


def _level_backward(
    incoming: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of one level's x, weight and bias."""
    if not x.numel():
        return torch.empty_like(x), torch.zeros_like(weight), torch.zeros_like(bias)
    if x.device.type == "cpu":
        return native.backward(incoming, x, weight, bias, mean, rstd, eps)
    return formula_backward(incoming, x, weight, bias, mean, rstd)


def formula_forward(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Straight from the formula, for devices without kernels."""
    grouped = x.to(weight.dtype).reshape(len(x), groups, -1)
    mean = grouped.mean(2)
    variance = (grouped - mean[:, :, None]).square().mean(2)
    rstd = (variance + eps).rsqrt()
    _, y = _normalise(x, weight, bias, mean, rstd)
    return torch.empty_like(x).copy_(y.relu_()), mean, rstd


def formula_backward(
    incoming: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    xhat, y = _normalise(x, weight, bias, mean, rstd)
    passed = incoming.to(y.dtype).masked_fill(y.to(x.dtype) <= 0, 0.0)
    by_weight, by_bias = (passed * xhat).sum((2, 3)), passed.sum((2, 3))
    slope, offset = input_slopes(by_weight, by_bias, weight, mean, rstd, x[0].numel())
    scale, _ = affine(weight, bias, mean, rstd)
    dx = passed * scale[:, :, None, None] + x * slope[:, :, None, None] + offset[:, :, None, None]
    return torch.empty_like(x).copy_(dx), by_weight.sum(0), by_bias.sum(0)


def _normalise(x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor]:
    """xhat and the output before the ReLU."""
    centre, scale = (each_channel(values, x.shape[1])[:, :, None, None] for values in (mean, rstd))
    xhat = (x - centre) * scale
    return xhat, xhat * weight[:, None, None] + bias[:, None, None]
