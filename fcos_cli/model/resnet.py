"""ResNet and ResNeXt as a detector's backbone: C2..C5, normalisation folded into the convolutions where it is fixed.

Deep Residual Learning (arXiv 1512.03385), Aggregated Residual Transformations (arXiv 1611.05431). State-dict names are
torchvision's. `style` is where the bottleneck's stride lies: "pytorch" in the 3x3; "caffe" in the first 1x1 for ResNet
(MSRA's weights) and in the 3x3 for ResNeXt (FAIR's 20171220 weights).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fcos_cli.recipe.schema import BackboneConfig, BackboneName, Norm, WeightStyle

GROUP_NORM_GROUPS = 32
PUBLISHED_WIDTH = 64


@dataclass(frozen=True, slots=True)
class Architecture:
    """Blocks per stage; for bottlenecks, groups of the 3x3 and its channels per group in the first stage."""

    blocks: tuple[int, int, int, int]
    bottleneck: bool
    groups: int = 1
    group_width: int = 64


ARCHITECTURES: dict[BackboneName, Architecture] = {
    "resnet18": Architecture((2, 2, 2, 2), bottleneck=False),
    "resnet34": Architecture((3, 4, 6, 3), bottleneck=False),
    "resnet50": Architecture((3, 4, 6, 3), bottleneck=True),
    "resnet101": Architecture((3, 4, 23, 3), bottleneck=True),
    "resnext101_32x8d": Architecture((3, 4, 23, 3), bottleneck=True, groups=32, group_width=8),
    "resnext101_64x4d": Architecture((3, 4, 23, 3), bottleneck=True, groups=64, group_width=4),
}


class FrozenBatchNorm(nn.Module):
    """BatchNorm whose statistics and affine terms are constants; runs only folded into a convolution (`conv_norm`)."""

    weight: Tensor
    bias: Tensor
    running_mean: Tensor
    running_var: Tensor

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.eps = eps
        self.register_buffer("weight", torch.ones(channels))
        self.register_buffer("bias", torch.zeros(channels))
        self.register_buffer("running_mean", torch.zeros(channels))
        self.register_buffer("running_var", torch.ones(channels))
        self.register_load_state_dict_pre_hook(_drop_batch_count)

    def extra_repr(self) -> str:
        return f"{self.weight.numel()}, eps={self.eps}"


def _drop_batch_count(module: nn.Module, state: dict[str, Tensor], prefix: str, *_: object) -> None:
    """A trainable BatchNorm's weights carry a count of batches, which a frozen one has no use for."""
    state.pop(prefix + "num_batches_tracked", None)


def group_norm_groups(channels: int) -> int:
    """32 groups where that leaves at least two channels in each; else the largest divisor of `channels` that does.

    (One channel a group would be instance norm, which erases each channel's mean over the image.)
    """
    return max(g for g in range(1, GROUP_NORM_GROUPS + 1) if channels % g == 0 and (2 * g <= channels or g == 1))


def make_norm(kind: Norm, channels: int) -> nn.Module:
    """The normalisation layer that follows a convolution with `channels` outputs."""
    if kind == "frozen_bn":
        return FrozenBatchNorm(channels)
    if kind == "bn":
        return nn.BatchNorm2d(channels)
    return nn.GroupNorm(group_norm_groups(channels), channels)


def conv_norm(conv: nn.Conv2d, norm: nn.Module, x: Tensor) -> Tensor:
    """norm(conv(x)), in one convolution where the norm is an affine map with fixed statistics.

    BN(W x) = s (W x) + t with s = weight / sqrt(var + eps), t = bias - s mean, so it is the convolution with (s W) and
    the bias t: no extra pass over the feature map, and W (and a trainable weight, bias) keep their exact gradients.
    """
    fixed = isinstance(norm, FrozenBatchNorm) or (isinstance(norm, nn.BatchNorm2d) and not norm.training)
    if not fixed:
        return norm(conv(x))
    assert isinstance(norm, FrozenBatchNorm | nn.BatchNorm2d)  # narrows the type for mypy
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    shift = norm.bias - norm.running_mean * scale
    weight = conv.weight * scale[:, None, None, None]
    return F.conv2d(x, weight, shift, conv.stride, conv.padding, conv.dilation, conv.groups)


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)


class Block(nn.Module):
    """What the two residual blocks share: the shortcut, projected where the shape changes."""

    expansion = 1

    def __init__(self, inputs: int, outputs: int, stride: int, norm: Norm) -> None:
        super().__init__()
        self.downsample: nn.Sequential | None = None
        if stride != 1 or inputs != outputs:
            self.downsample = nn.Sequential(_conv(inputs, outputs, 1, stride), make_norm(norm, outputs))

    def shortcut(self, x: Tensor) -> Tensor:
        if self.downsample is None:
            return x
        conv, norm = self.downsample
        assert isinstance(conv, nn.Conv2d)  # narrows the type for mypy
        return conv_norm(conv, norm, x)


class BasicBlock(Block):
    """Two 3x3 convolutions (ResNet-18 and -34)."""

    def __init__(self, inputs: int, planes: int, stride: int, norm: Norm) -> None:
        super().__init__(inputs, planes, stride, norm)
        self.conv1, self.bn1 = _conv(inputs, planes, 3, stride), make_norm(norm, planes)
        self.conv2, self.bn2 = _conv(planes, planes, 3), make_norm(norm, planes)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu_(conv_norm(self.conv1, self.bn1, x))
        return F.relu_(conv_norm(self.conv2, self.bn2, y).add_(self.shortcut(x)))


class Bottleneck(Block):
    """1x1, 3x3 (grouped in ResNeXt) and 1x1 convolutions."""

    expansion = 4

    def __init__(
        self, inputs: int, planes: int, stride: int, norm: Norm, inner: int, groups: int, stride_in_1x1: bool
    ) -> None:
        super().__init__(inputs, planes * self.expansion, stride, norm)
        first, second = (stride, 1) if stride_in_1x1 else (1, stride)
        self.conv1, self.bn1 = _conv(inputs, inner, 1, first), make_norm(norm, inner)
        self.conv2, self.bn2 = _conv(inner, inner, 3, second, groups), make_norm(norm, inner)
        self.conv3, self.bn3 = _conv(inner, planes * 4, 1), make_norm(norm, planes * 4)

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu_(conv_norm(self.conv1, self.bn1, x))
        y = F.relu_(conv_norm(self.conv2, self.bn2, y))
        return F.relu_(conv_norm(self.conv3, self.bn3, y).add_(self.shortcut(x)))


class ResNet(nn.Module):
    """The network up to its last stage, randomly initialised.

    Convolutions start at kaiming_normal (fan_out, relu); with a norm that trains (bn, gn) the last norm of each block
    starts at zero, so that blocks begin as their shortcut (arXiv 1706.02677, section 5.1). `config.width` is the stem's
    channels, and every stage scales with it.

    Args:
        config: the recipe's `model.backbone`.
        style: where the stride of a bottleneck lies (see the module).
        outputs: which of C2..C5 `forward` returns; stages above the last are not built.
    """

    def __init__(
        self, config: BackboneConfig, style: WeightStyle = "pytorch", outputs: Sequence[int] = (2, 3, 4, 5)
    ) -> None:
        super().__init__()
        if not outputs or not set(outputs) <= {2, 3, 4, 5}:
            raise ValueError(f"outputs must be some of 2, 3, 4, 5, not {list(outputs)}")
        self.architecture = ARCHITECTURES[config.name]
        self.norm = config.norm
        self.frozen_stages = config.frozen_stages
        self.outputs = tuple(sorted(set(outputs)))
        self.stride_in_1x1 = style == "caffe" and self.architecture.groups == 1
        self.conv1 = nn.Conv2d(3, config.width, 7, 2, 3, bias=False)
        self.bn1 = make_norm(config.norm, config.width)
        self.channels: dict[int, int] = {}
        channels = config.width
        for stage in range(1, self.outputs[-1]):
            layer, channels = self._stage(stage, channels, config.width << (stage - 1))
            self.add_module(f"layer{stage}", layer)
            self.channels[stage + 1] = channels
        self._initialise()
        for module in self._frozen():
            module.requires_grad_(False)
        self.train()

    def _stage(self, stage: int, inputs: int, planes: int) -> tuple[nn.Sequential, int]:
        blocks: list[Block] = []
        kind = self.architecture
        for position in range(kind.blocks[stage - 1]):
            stride = 2 if stage > 1 and position == 0 else 1
            if kind.bottleneck:
                inner = max(1, planes * kind.group_width // PUBLISHED_WIDTH) * kind.groups
                blocks.append(Bottleneck(inputs, planes, stride, self.norm, inner, kind.groups, self.stride_in_1x1))
            else:
                blocks.append(BasicBlock(inputs, planes, stride, self.norm))
            inputs = planes * blocks[-1].expansion
        return nn.Sequential(*blocks), inputs

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
        if self.norm == "frozen_bn":
            return
        for module in self.modules():
            if isinstance(module, Block):
                last = module.bn3 if isinstance(module, Bottleneck) else module.bn2
                assert isinstance(last, nn.BatchNorm2d | nn.GroupNorm)  # narrows the type for mypy
                nn.init.zeros_(last.weight)

    def _frozen(self) -> list[nn.Module]:
        stem = [self.conv1, self.bn1] if self.frozen_stages >= 1 else []
        stages = range(1, min(self.frozen_stages, self.outputs[-1]))
        return [*stem, *(self.get_submodule(f"layer{stage}") for stage in stages)]

    def train(self, mode: bool = True) -> Self:
        """As nn.Module's; the frozen stages stay in eval mode, so that their BatchNorm keeps its statistics."""
        super().train(mode)
        for module in self._frozen():
            module.eval()
        return self

    def forward(self, pixels: Tensor) -> dict[int, Tensor]:
        """Pixels [N, 3, H, W] -> {level: [N, channels[level], ceil(H / 2^level), ceil(W / 2^level)]}."""
        x = F.relu_(conv_norm(self.conv1, self.bn1, pixels))
        x = F.max_pool2d(x, 3, 2, 1)
        features: dict[int, Tensor] = {}
        for level in range(2, self.outputs[-1] + 1):
            x = self.get_submodule(f"layer{level - 1}")(x)
            if level in self.outputs:
                features[level] = x
        return features
