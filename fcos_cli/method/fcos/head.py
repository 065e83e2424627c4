"""What every location predicts (FCOS section 3.2; docs/method.md, Network): a class, four distances, a quality.

The outputs are raw: activations and the scales s_i live in the losses and in the decoding.
"""

import math
from collections.abc import Sequence
from typing import ClassVar

import torch
from torch import Tensor, nn

from fcos_cli.errors import RecipeError
from fcos_cli.geometry.pyramid import Pyramid
from fcos_cli.method.dense_head import DenseHead
from fcos_cli.method.fcos.tables import FCOSHeadConfig
from fcos_cli.method.interface import Outputs, Selection
from fcos_cli.method.towers import initialize, tower
from fcos_kernels.common.outputs import activate
from fcos_kernels.decode import Candidates, PaddedCandidates, Rule, decode, decode_padded


class FCOSHead(DenseHead):
    """Two towers of 3x3 convolutions (with bias) + GroupNorm + ReLU, then 3x3 predictions.

    Outputs, per level: "classification" [N, classes, H, W]; "box" [N, 4, H, W], x in exp(s x) or relu(s x), order left,
    top, right, bottom; "quality" [N, 1, H, W], where the recipe has a branch. Weights start at N(0, 0.01), biases at 0,
    the class bias at -log((1 - prior) / prior). `scales` [levels] are the trained s_i of the box activation; they start
    at 1 and are applied by the losses and the decoding, not here.

    Raises:
        RecipeError: channels that the groups of the GroupNorm do not divide.
    """

    class_layers: ClassVar[tuple[str, ...]] = ("class_logits",)
    plain: ClassVar[bool] = True

    def __init__(self, config: FCOSHeadConfig, channels: int, num_classes: int, pyramid: Pyramid) -> None:
        super().__init__()
        if config.norm == "gn" and config.convs and channels % config.groups:
            raise RecipeError(
                f"model.pyramid.channels = {channels} is not a multiple of model.head.groups = {config.groups}",
                f"set model.head.groups to a divisor such as {math.gcd(channels, config.groups)}",
            )
        self.config, self.pyramid = config, pyramid
        groups = config.groups if config.norm == "gn" else None
        self.class_tower = tower(channels, config.convs, groups)
        self.box_tower = tower(channels, config.convs, groups)
        self.class_logits = nn.Conv2d(channels, num_classes, 3, padding=1)
        self.box_output = nn.Conv2d(channels, 4, 3, padding=1)
        self.quality = nn.Conv2d(channels, 1, 3, padding=1) if config.has_branch else None
        self.scales = nn.Parameter(torch.ones(len(pyramid.levels)))
        initialize(self, self.class_logits, config.prior)

    @property
    def units(self) -> tuple[float, ...]:
        """Pixels in one unit of predicted distance, per level: the stride where targets are normalised, else 1."""
        normalized = self.config.normalize_targets
        return tuple(float(stride) if normalized else 1.0 for stride in self.pyramid.strides)

    def forward(self, levels: Sequence[Tensor]) -> Outputs:
        """P-levels, each [N, channels, H_l, W_l] -> the outputs by name."""
        class_features, box_features = self.class_tower(levels), self.box_tower(levels)
        outputs = {
            "classification": [self.class_logits(features) for features in class_features],
            "box": [self.box_output(features) for features in box_features],
        }
        if self.quality is not None:
            carrier = box_features if self.config.quality_tower == "regression" else class_features
            outputs["quality"] = [self.quality(features) for features in carrier]
        return outputs

    def decode(self, outputs: Outputs, sizes: Tensor, selection: Selection) -> Candidates:
        """score = sqrt(class * quality) or their product, box = location -+ distances (docs/method.md, Inference)."""
        return decode(*self._decoded(outputs), sizes, self._rule(selection))

    def decode_padded(self, outputs: Outputs, sizes: Tensor, selection: Selection) -> PaddedCandidates:
        """The same in shapes that do not depend on values."""
        return decode_padded(*self._decoded(outputs), sizes, self._rule(selection))

    def whole_boxes(self, outputs: Outputs, image: Tensor, level: Tensor, row: Tensor, location: Tensor) -> Tensor:
        """location -+ distances, as the decoding has them before it cuts."""
        every = torch.cat([box.flatten(2).transpose(1, 2) for box in outputs["box"]], dim=1)
        scaled = every[image, row].float() * self.scales.float()[level][..., None]
        # exp in float64, as the op computes it on a CPU
        exact = scaled.double() if self.config.box_activation == "exp" else scaled
        unit = torch.tensor(self.units, device=scaled.device)[level][..., None]
        distance = activate(exact, self.config.box_activation)[0].float() * unit
        centre = location.float()
        return torch.cat([centre - distance[..., :2], centre + distance[..., 2:]], dim=-1)

    def _decoded(self, outputs: Outputs) -> tuple[list[Tensor], list[Tensor], list[Tensor] | None, Tensor]:
        return outputs["classification"], outputs["box"], outputs.get("quality"), self.scales

    def _rule(self, selection: Selection) -> Rule:
        return Rule(
            strides=self.pyramid.strides,
            starts=self.pyramid.starts,
            units=self.units,
            activation=self.config.box_activation,
            quality=self.config.quality,
            threshold=selection.threshold,
            threshold_on=selection.threshold_on,
            rank_by=selection.rank_by,
            score=selection.score,
            candidates=selection.candidates,
        )
