"""What the heads of the family are built of: towers of convolutions, and how their weights start."""

import math
from collections.abc import Sequence

from torch import Tensor, nn

from fcos_kernels.group_norm_relu import group_norm_relu

INIT_STD = 0.01


class Tower(nn.Sequential):
    """Layer by layer over all levels, so that one launch normalises them all; its keys are those of nn.Sequential."""

    def forward(self, levels: Sequence[Tensor]) -> list[Tensor]:
        maps, fused = list(levels), False
        for layer in self:
            if isinstance(layer, nn.GroupNorm):
                maps = group_norm_relu(maps, layer.weight, layer.bias, groups=layer.num_groups, eps=layer.eps)
                fused = True
            elif not (fused and isinstance(layer, nn.ReLU)):
                maps = [layer(features) for features in maps]
        return maps


def tower(channels: int, convs: int, groups: int | None) -> Tower:
    """`convs` times a 3x3 convolution (with bias), GroupNorm of so many groups (None: no norm), ReLU."""
    layers: list[nn.Module] = []
    for _ in range(convs):
        layers.append(nn.Conv2d(channels, channels, 3, padding=1))
        if groups is not None:
            layers.append(nn.GroupNorm(groups, channels))
        layers.append(nn.ReLU(inplace=True))
    return Tower(*layers)


def initialize(head: nn.Module, class_logits: nn.Conv2d, prior: float) -> None:
    """Convolutions start at N(0, 0.01), biases at 0, and every class at the probability `prior` (RetinaNet, 4.1)."""
    for module in head.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.normal_(module.weight, std=INIT_STD)
            assert module.bias is not None
            nn.init.zeros_(module.bias)
    assert class_logits.bias is not None
    nn.init.constant_(class_logits.bias, -math.log((1 - prior) / prior))
