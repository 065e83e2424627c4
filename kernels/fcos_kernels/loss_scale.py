"""The backward pass of the losses: gradients that the forward pass computed, times the incoming one.

On a GPU this happens in place, in one launch, and does nothing where the incoming gradient is 1: a kernel sees that,
the host does not wait for it. The saved buffers are then spent, and a second backward pass through them is refused. On
the CPU they stay as they are: a scalar there can be looked at, and 1 costs nothing.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcos_kernels import dispatch
from fcos_kernels.loss_types import FLOAT16_GAIN

SPENT = (
    "backward through the loss a second time: on a GPU its gradients are scaled in place. Compute the loss again, "
    "or add up what is to be differentiated and call backward once"
)


def refuse_second_use(ctx: Any, incoming: Sequence[Tensor | None]) -> None:
    """Raise RuntimeError where a backward pass would find spent buffers, or be differentiated itself."""
    if getattr(ctx, "spent", False):
        raise RuntimeError(SPENT)
    if torch.is_grad_enabled() and any(x is not None and x.requires_grad for x in incoming):
        raise RuntimeError("the loss can be differentiated once: its gradient has no gradient")


def scale(
    ctx: Any, gradients: Sequence[Tensor], factors: Sequence[Tensor], positives: Tensor | None = None
) -> list[Tensor]:
    """Each of `gradients` times its scalar; `ctx` remembers whether they were modified.

    With `positives`, float16 gradients are divided by it and FLOAT16_GAIN.
    """
    # fake tensors and those of a compiler have other types
    if all(type(x) is Tensor and x.device.type == "cpu" for x in factors):
        return [scaled(x, _unwind(x, factor, positives)) for x, factor in zip(gradients, factors, strict=True)]
    if gradients:
        ctx.spent = True
        scale_(list(gradients), list(factors), positives)
    return list(gradients)


def scaled(grad: Tensor, factor: Tensor) -> Tensor:
    """`grad` times a scalar, in the dtype of `grad`; on the CPU `grad` itself where the scalar is 1."""
    if factor.device.type == "cpu" and factor.item() == 1:
        return grad
    if grad.dtype == torch.float16:
        return (grad.float() * factor).half()  # the factor may lie below float16's range
    return grad * factor.to(torch.promote_types(grad.dtype, torch.float32))


def _unwind(grad: Tensor, factor: Tensor, positives: Tensor | None) -> Tensor:
    if grad.dtype != torch.float16 or positives is None:
        return factor
    return factor.float() / (positives * FLOAT16_GAIN)


@torch.library.custom_op("fcos_kernels::scale_gradients_", mutates_args=("gradients",))
def scale_(gradients: Sequence[Tensor], factors: Sequence[Tensor], positives: Tensor | None) -> None:
    """As `scale`, in place."""
    if dispatch.use_triton(gradients[0].device) and all(x.dtype != torch.float64 for x in gradients):
        from fcos_kernels import loss_backward_kernel

        loss_backward_kernel.launch(gradients, factors, positives)
        return
    for x, factor in zip(gradients, factors, strict=True):
        x.copy_(x.to(torch.promote_types(x.dtype, torch.float32)) * _unwind(x, factor, positives))


@scale_.register_fake
def _(gradients: Sequence[Tensor], factors: Sequence[Tensor], positives: Tensor | None) -> None:
    return None
