"""The backward pass of the losses: gradients that the forward pass computed, times the incoming one.

On a GPU this happens in place, in one launch, and does nothing where the incoming gradient is 1: a kernel sees that,
the host does not wait for it. The saved buffers are then spent, and a second backward pass through them is refused. On
the CPU they stay as they are: a scalar there can be looked at, and 1 costs nothing. A compiler gets plain products.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcos_kernels.common import dispatch
from fcos_kernels.loss.types import FLOAT16_GAIN

SPENT = (
    "a second backward pass through the loss: on a GPU the first one scales its gradients in place. Add up what is to "
    "be differentiated and call backward once, or compute the loss again"
)
NO_SECOND_DERIVATIVE = (
    "the loss can be differentiated once: its gradient has no gradient (a gradient penalty needs another loss)"
)


def refuse_second_use(ctx: Any) -> None:
    """Raise RuntimeError where a backward pass would find spent buffers."""
    if getattr(ctx, "spent", False):
        raise RuntimeError(SPENT)


def without_second_derivative(gradient: Tensor) -> Tensor:
    """The gradient; under `create_graph=True` as one that raises RuntimeError where it is differentiated.

    Without that, autograd would take it for a constant and leave terms out without a word.
    """
    if not torch.is_grad_enabled():
        return gradient
    guarded: Tensor = _WithoutSecondDerivative.apply(gradient.detach().requires_grad_())
    return guarded


class _WithoutSecondDerivative(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.view_as(gradient)

    @staticmethod
    def backward(ctx: Any, incoming: Tensor) -> Tensor:
        raise RuntimeError(NO_SECOND_DERIVATIVE)


def times_incoming(
    ctx: Any, gradients: Sequence[Tensor], factors: Sequence[Tensor], positives: Tensor | None = None
) -> list[Tensor]:
    """Each of `gradients` times its incoming scalar: themselves where `in_place`, which `ctx` remembers.

    With `positives`, float16 gradients are divided by it and FLOAT16_GAIN.
    """
    if gradients and in_place(gradients):
        ctx.spent = True
        _multiply_in_place(gradients, factors, positives)
        return list(gradients)
    return [times(x, _unwind(x, factor, positives)) for x, factor in zip(gradients, factors, strict=True)]


def in_place(gradients: Sequence[Tensor]) -> bool:
    """On a device that computes on its own; not for the stand-ins of a compiler, which are of other types."""
    return all(type(x) is Tensor and x.device.type != "cpu" for x in gradients)


def _multiply_in_place(gradients: Sequence[Tensor], factors: Sequence[Tensor], positives: Tensor | None = None) -> None:
    """As `times_incoming`, in place. Autograd takes note, as of every change in place."""
    if dispatch.use_triton(gradients[0].device) and all(x.dtype != torch.float64 for x in gradients):
        from fcos_kernels.loss import launch_backward

        launch_backward.launch(gradients, factors, positives)
        torch.autograd.graph.increment_version(gradients)
        return
    for x, factor in zip(gradients, factors, strict=True):
        x.copy_(_product(x, _unwind(x, factor, positives)))


def times(grad: Tensor, factor: Tensor) -> Tensor:
    """`grad` times a scalar, in the dtype of `grad`; `grad` itself where the scalar lies on the CPU and is 1."""
    looked_at = type(factor) is Tensor and factor.device.type == "cpu" and not torch.compiler.is_compiling()
    if looked_at and factor.item() == 1:
        return grad
    return _product(grad, factor)


def _product(grad: Tensor, factor: Tensor) -> Tensor:
    if grad.dtype == torch.float16:
        return (grad.float() * factor).half()  # the factor may lie below float16's range
    return grad * factor.to(torch.promote_types(grad.dtype, torch.float32))


def _unwind(grad: Tensor, factor: Tensor, positives: Tensor | None) -> Tensor:
    if grad.dtype != torch.float16 or positives is None:
        return factor
    return factor.float() / (positives * FLOAT16_GAIN)
