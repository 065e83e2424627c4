"""Convolutions for inference: with the residual and the ReLU in one, and the fastest way for each on this device."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcos_cli.runtime import winograd

WIDE = 256
"""Channels in and out from which Winograd's transforms are paid back: 1.4 to 1.7 times faster; at 128 it is a draw."""


def fastest(conv: nn.Module) -> "Convolution":
    """The same convolution, the fastest way there is for its weights' dtype and device."""
    assert isinstance(conv, nn.Conv2d)  # narrows the type for mypy
    if conv.weight.device.type == "cpu":
        if WinogradConvolution.suits(conv):
            return WinogradConvolution(conv)
        if PackedConvolution.suits(conv):
            return PackedConvolution(conv)
    return Convolution(conv)


class Convolution(nn.Module):
    """A convolution, the addition of a residual and the ReLU, as one: relu(conv(x) + bias + residual).

    Args:
        conv: taken over, with its weights.
    """

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert not isinstance(conv.padding, str)  # narrows the type for mypy
        self.weight, self.stride, self.padding = conv.weight.detach(), list(conv.stride), list(conv.padding)
        self.dilation, self.groups = list(conv.dilation), conv.groups
        self.bias = self.weight.new_zeros(conv.out_channels) if conv.bias is None else conv.bias.detach()

    def forward(self, x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        """x [N, C, H, W] and residual [N, O, H', W'], which may be overwritten -> [N, O, H', W']."""
        y = F.conv2d(x, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)
        if residual is not None:
            y.add_(residual)
        return y.relu_() if relu else y


class PackedConvolution(Convolution):
    """By oneDNN, from weights laid out for it, the rest done while it writes."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv)
        # The layout is the same for images of any size; a size is needed to choose it at all.
        size = [1, conv.in_channels, 100, 136]
        geometry = self.padding, self.stride, self.dilation, self.groups
        self.weight = torch.ops.mkldnn._reorder_convolution_weight(self.weight, *geometry, size)
        self.geometry = geometry

    @staticmethod
    def suits(conv: nn.Conv2d) -> bool:
        """Whether oneDNN computes in the dtype of its weights here."""
        if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_convolution_pointwise_"):
            return False
        if conv.weight.dtype == torch.bfloat16:
            return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
        return conv.weight.dtype == torch.float32

    def forward(self, x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        ops, arguments = torch.ops.mkldnn, (x, self.weight, self.bias, *self.geometry)
        if residual is None:
            y: Tensor = ops._convolution_pointwise(*arguments, "relu" if relu else "none", [], "")
        else:
            after = "relu" if relu else None
            y = ops._convolution_pointwise_.binary(residual, *arguments, "add", 1.0, after, [], None)
        return y


class WinogradConvolution(Convolution):
    """In float32, with fewer multiplications (see `winograd.py`)."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__(conv)
        self.weight = winograd.transform_weight(self.weight)

    @staticmethod
    def suits(conv: nn.Conv2d) -> bool:
        """Whether it can be computed so, and fast."""
        plain = conv.stride == conv.dilation == (1, 1) and conv.padding == (1, 1) and conv.groups == 1
        wide = min(conv.in_channels, conv.out_channels) >= WIDE
        return conv.kernel_size == (3, 3) and plain and wide and conv.weight.dtype == torch.float32

    def forward(self, x: Tensor, residual: Tensor | None = None, relu: bool = False) -> Tensor:
        y = winograd.convolve(x, self.weight, self.bias, relu=relu and residual is None)
        if residual is not None:
            y.add_(residual)
            return y.relu_() if relu else y
        return y
