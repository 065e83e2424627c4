"""The head that every level shares (FCOS section 3.2; spec section 5): raw outputs, activations live in the kernels."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fcos_cli.errors import RecipeError
from fcos_cli.recipe.schema import HeadConfig
from fcos_kernels.group_norm_relu import group_norm_relu

INIT_STD = 0.01


class HeadOutputs(NamedTuple):
    """What the last convolutions leave, one entry per level, finest first: no activation, no scale applied."""

    class_logits: list[Tensor]
    """[N, classes, H_l, W_l]"""
    box_outputs: list[Tensor]
    """[N, 4, H_l, W_l]: x in exp(s x) or relu(s x), order left, top, right, bottom"""
    quality_logits: list[Tensor] | None
    """[N, 1, H_l, W_l], or None where the recipe has no quality branch"""


class Head(nn.Module):
    """Two towers of 3x3 convolutions (with bias) + GroupNorm + ReLU, then 3x3 predictions.

    Weights start at N(0, 0.01), biases at 0, the class bias at -log((1 - prior) / prior). `scales` [levels] are the
    trained s_i of the box activation; they start at 1 and are applied by the loss and the decoder, not here.

    Raises:
        RecipeError: channels that the groups of the GroupNorm do not divide.
    """

    def __init__(self, config: HeadConfig, channels: int, num_classes: int, num_levels: int) -> None:
        super().__init__()
        if config.norm == "gn" and config.convs and channels % config.groups:
            raise RecipeError(
                f"model.pyramid.channels = {channels} is not a multiple of model.head.groups = {config.groups}",
                f"set model.head.groups to a divisor such as {math.gcd(channels, config.groups)}",
            )
        self.quality_on_regression = config.quality_tower == "regression"
        self.class_tower = _tower(config, channels)
        self.box_tower = _tower(config, channels)
        self.class_logits = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.box_output = nn.Conv2d(channels, 4, 3, padding=1)
        has_branch = config.quality in ("centerness", "iou")
        self.quality = nn.Conv2d(channels, 1, 3, padding=1) if has_branch else None
        self.scales = nn.Parameter(torch.ones(num_levels))
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.normal_(module.weight, std=INIT_STD)
                assert module.bias is not None
                nn.init.zeros_(module.bias)
        assert self.class_logits.bias is not None
        nn.init.constant_(self.class_logits.bias, -math.log((1 - config.prior) / config.prior))

    def forward(self, levels: Sequence[Tensor]) -> HeadOutputs:
        """P-levels, each [N, channels, H_l, W_l] -> the outputs of each level, in the same order."""
        class_features, box_features = self.class_tower(levels), self.box_tower(levels)
        class_logits = [self.class_logits(features) for features in class_features]
        box_outputs = [self.box_output(features) for features in box_features]
        if self.quality is None:
            return HeadOutputs(class_logits, box_outputs, None)
        quality_features = box_features if self.quality_on_regression else class_features
        return HeadOutputs(class_logits, box_outputs, [self.quality(features) for features in quality_features])


class _Tower(nn.Sequential):
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


def _tower(config: HeadConfig, channels: int) -> _Tower:
    layers: list[nn.Module] = []
    for _ in range(config.convs):
        layers.append(nn.Conv2d(channels, channels, 3, padding=1))
        if config.norm == "gn":
            layers.append(nn.GroupNorm(config.groups, channels))
        layers.append(nn.ReLU(inplace=True))
    return _Tower(*layers)
