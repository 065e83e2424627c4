"""The feature pyramid network (arXiv 1612.03144; FCOS section 3.2; docs/method.md, Network).

Top-down from C5: P_l = conv3x3(M_l), M_l = conv1x1(C_l) + nearest(M_{l+1}); P6 = conv3x3/2 of P5 (or C5),
P7 = conv3x3/2 of relu(P6).
"""

from collections.abc import Mapping, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from fcos_cli.recipe.schema import PyramidConfig

TOP = 5


class FeaturePyramid(nn.Module):
    """Maps C-levels to the wanted run of P-levels; has no parameter that the wanted levels do not use.

    Args:
        config: the recipe's `model.pyramid`.
        backbone_channels: channels of each C-level; `inputs(config)` names those that are read.
    """

    def __init__(self, config: PyramidConfig, backbone_channels: Mapping[int, int]) -> None:
        super().__init__()
        self.levels = tuple(config.levels)
        self.from_p5 = config.extra_from == "p5"
        channels = config.channels
        self.lateral = nn.ModuleDict({f"c{c}": nn.Conv2d(backbone_channels[c], channels, 1) for c in lateral(config)})
        outputs = [level for level in self.levels if level <= TOP]
        if self.levels[-1] > TOP and self.from_p5 and TOP not in outputs:
            outputs.append(TOP)
        self.output = nn.ModuleDict({f"p{level}": nn.Conv2d(channels, channels, 3, padding=1) for level in outputs})
        self.extra = nn.ModuleDict()
        if self.levels[-1] > TOP:
            source = channels if self.from_p5 else backbone_channels[TOP]
            self.extra["p6"] = nn.Conv2d(source, channels, 3, 2, 1)
        if self.levels[-1] > TOP + 1:
            self.extra["p7"] = nn.Conv2d(channels, channels, 3, 2, 1)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_uniform_(module.weight, a=1)
                assert module.bias is not None
                nn.init.zeros_(module.bias)

    def forward(self, features: Mapping[int, Tensor]) -> list[Tensor]:
        """{level: C-level [N, C_l, H_l, W_l]} -> the wanted P-levels [N, channels, H_l, W_l], finest first."""
        levels: dict[int, Tensor] = {}
        merged: Tensor | None = None
        for level in range(TOP, 1, -1):
            if f"c{level}" not in self.lateral:
                break
            lateral = self.lateral[f"c{level}"](features[level])
            if merged is not None:
                lateral = lateral + F.interpolate(merged, size=lateral.shape[-2:], mode="nearest")
            merged = lateral
            if f"p{level}" in self.output:
                levels[level] = self.output[f"p{level}"](merged)
        if "p6" in self.extra:
            levels[6] = self.extra["p6"](levels[TOP] if self.from_p5 else features[TOP])
        if "p7" in self.extra:
            levels[7] = self.extra["p7"](F.relu(levels[6]))
        return [levels[level] for level in self.levels]


def lateral(config: PyramidConfig) -> Sequence[int]:
    """The C-levels that get a lateral convolution: from the finest wanted level up to C5."""
    if config.levels[0] <= TOP:
        return range(config.levels[0], TOP + 1)
    return (TOP,) if config.extra_from == "p5" else ()


def inputs(config: PyramidConfig) -> tuple[int, ...]:
    """The C-levels that the pyramid reads."""
    return tuple(sorted({*lateral(config), TOP}))
