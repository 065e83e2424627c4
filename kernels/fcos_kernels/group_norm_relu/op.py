"""GroupNorm and ReLU in one, for all levels that share weight and bias.

    xhat = (x - mean) rstd          mean, rstd = 1 / sqrt(variance + eps) over the C/G channels and all locations
    y    = max(weight xhat + bias, 0)                                   of one (level, image, group)

(Wu and He, arXiv 1803.08494, equation 1.) With dy' = dy where y > 0, else 0:

    dbias = sum dy'        dweight = sum dy' xhat                       over levels, images and locations
    dx    = rstd (weight dy' - mean(weight dy') - xhat mean(weight dy' xhat))

The means are over a (level, image, group). Statistics are found in two passes or merged (Chan), never as E[x^2] -
E[x]^2; they and the arithmetic are float32 (float64 for float64 inputs). What waits for the backward pass is x, which
the convolution before made, and the statistics; y is computed again to find its sign. Outputs and gradients are laid
out as the inputs are, contiguous or channels-last. Bytes that must move: forward, x twice and y once; backward, x and
dy twice and dx once.
"""

from collections.abc import Sequence
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from fcos_kernels.common import dispatch
from fcos_kernels.common.checks import LOGIT_DTYPES, check_positive, check_same_device, check_tensor, check_whole
from fcos_kernels.common.tensors import alike, compute_dtype, dense, is_last, memory_format
from fcos_kernels.group_norm_relu import plain

Found = tuple[list[Tensor], Tensor, Tensor]


def group_norm_relu(
    inputs: Sequence[Tensor], weight: Tensor, bias: Tensor, *, groups: int = 32, eps: float = 1e-5
) -> list[Tensor]:
    """GroupNorm and ReLU of every level; differentiable once.

    Under autocast nothing is cast: bfloat16 inputs give bfloat16 outputs, normalised in float32.

    Args:
        inputs: per level [N, C, H, W], of one dtype: float32, bfloat16 or float16; contiguous or channels-last (others
            are copied).
        weight, bias: [C], of any of these dtypes.
        groups: a divisor of C.
        eps: added to the variance.

    Returns:
        One tensor a level, of its shape, dtype and memory format.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, named.
    """
    if isinstance(inputs, Tensor):
        raise TypeError("inputs must be a list with a tensor for each level, not a tensor")
    if not len(inputs):
        raise ValueError("inputs must have at least one level")
    for level, x in enumerate(inputs):
        check_tensor(f"inputs[{level}]", x, LOGIT_DTYPES, [None] * 4)
        check_tensor(f"inputs[{level}]", x, inputs[0].dtype, [*inputs[0].shape[:2], None, None])
        check_same_device(inputs[0], **{f"inputs[{level}]": x})
    channels = inputs[0].shape[1]
    check_tensor("weight", weight, LOGIT_DTYPES, [channels])
    check_tensor("bias", bias, LOGIT_DTYPES, [channels])
    check_same_device(inputs[0], weight=weight, bias=bias)
    check_whole("groups", [groups])
    check_positive("groups", [groups])
    check_positive("eps", [eps])
    if channels % groups:
        raise ValueError(f"groups must divide the {channels} channels of inputs, not be {groups}")
    inputs = [dense(x) for x in inputs]
    if len({is_last([x]) for x in inputs}) > 1 and not is_last(inputs):
        return [group_norm_relu([x], weight, bias, groups=groups, eps=eps)[0] for x in inputs]
    outputs, _, _ = _group_norm_relu(inputs, weight, bias, groups, eps)
    return outputs


@torch.library.custom_op("fcos_kernels::group_norm_relu", mutates_args=())
def _group_norm_relu(inputs: list[Tensor], weight: Tensor, bias: Tensor, groups: int, eps: float) -> Found:
    """Outputs, mean and rstd [levels, N, G]."""
    inputs, last = alike(inputs), is_last(inputs)
    kernel = _kernels(inputs)
    if kernel:
        with torch.cuda.device_of(inputs[0]):
            return kernel.forward(inputs, weight.contiguous(), bias.contiguous(), groups, eps, last)
    return plain.forward(inputs, weight, bias, groups, eps)


@torch.library.custom_op("fcos_kernels::group_norm_relu_backward", mutates_args=())
def _group_norm_relu_backward(
    incoming: list[Tensor],
    inputs: list[Tensor],
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    rstd: Tensor,
    eps: float,
) -> Found:
    """Gradients of the inputs, of weight and of bias."""
    inputs, last = alike(inputs), is_last(inputs)
    incoming = [dy.contiguous(memory_format=memory_format(last)) for dy in incoming]
    kernel = _kernels(inputs)
    if kernel:
        affine = weight.contiguous(), bias.contiguous()
        with torch.cuda.device_of(inputs[0]):
            gradients, by_weight, by_bias = kernel.backward(incoming, inputs, *affine, mean, rstd, last)
    else:
        gradients, by_weight, by_bias = plain.backward(incoming, inputs, weight, bias, mean, rstd, eps)
    return gradients, by_weight.to(weight.dtype), by_bias.to(bias.dtype)


@_group_norm_relu.register_fake
def _(inputs: list[Tensor], weight: Tensor, bias: Tensor, groups: int, eps: float) -> Found:
    inputs = alike(inputs)
    statistics = (len(inputs), inputs[0].shape[0], groups)
    mean, rstd = (inputs[0].new_empty(statistics, dtype=compute_dtype(inputs[0])) for _ in range(2))
    return [torch.empty_like(x) for x in inputs], mean, rstd


@_group_norm_relu_backward.register_fake
def _(incoming: list[Tensor], inputs: list[Tensor], weight: Tensor, bias: Tensor, *others: Any) -> Found:
    return [torch.empty_like(x) for x in alike(inputs)], torch.empty_like(weight), torch.empty_like(bias)


def _setup_context(ctx: Any, inputs: tuple[Any, ...], output: Found) -> None:
    xs, weight, bias, _, ctx.eps = inputs
    ctx.levels = len(xs)
    ctx.save_for_backward(*xs, weight, bias, *output[1:])


def _derive(ctx: Any, incoming: list[Tensor | None], *statistics: Tensor | None) -> tuple[Any, ...]:
    saved = ctx.saved_tensors  # once: checkpointing unpacks a tensor a single time
    inputs, rest = list(saved[: ctx.levels]), saved[ctx.levels :]
    given = [torch.zeros_like(x) if dy is None else dy for dy, x in zip(incoming, inputs, strict=True)]
    return *_group_norm_relu_backward(given, inputs, *rest, ctx.eps), None, None


_group_norm_relu.register_autograd(_derive, setup_context=_setup_context)


def _kernels(inputs: Sequence[Tensor]) -> ModuleType | None:
    """The launchers of the Triton kernels, where these run."""
    if not dispatch.use_triton(inputs[0].device):
        return None
    from fcos_kernels.group_norm_relu import launch

    return launch if launch.supports(inputs) else None
