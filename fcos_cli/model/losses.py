"""The training loss of a batch: which location learns what, and how wrong the outputs are (equations 2 and 3)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fcos_cli.data.loading.tensors import Targets
from fcos_cli.geometry.pyramid import Pyramid
from fcos_cli.model.fcos import HeadOutputs
from fcos_cli.recipe.schema import Recipe
from fcos_kernels.assign import Assignment, assign
from fcos_kernels.loss import detection_loss

MIN_POSITIVES = 1.0
MIN_CENTERNESS_SUM = 1e-6  # official


class Losses(NamedTuple):
    """Float32 scalars: the three losses, scaled as the recipe says, and their sum."""

    total: Tensor
    classification: Tensor
    box: Tensor
    quality: Tensor


class DetectionLoss:
    """Assigns ground truth to locations and computes the three losses, as a recipe says.

    Args:
        recipe: its `model.head`, `assign` and `loss` tables choose the variant.
        pyramid: levels, strides and ranges.
        units: per level, the length in pixels of one unit of the box output (the stride, or 1).
    """

    def __init__(self, recipe: Recipe, pyramid: Pyramid, units: Sequence[float]) -> None:
        self.recipe, self.pyramid, self.units = recipe, pyramid, tuple(units)
        quality = recipe.model.head.quality
        self.branch = quality if quality in ("centerness", "iou") else "none"

    def assign(self, targets: Targets, height: int, width: int) -> Assignment:
        """Ground-truth row per location [N, L] of a batch padded to height x width pixels (spec section 2)."""
        settings = self.recipe.assign
        assigned = assign(
            targets.boxes,
            targets.offsets,
            grids=self.pyramid.grids(height, width),
            strides=self.pyramid.strides,
            starts=self.pyramid.starts,
            ranges=self.pyramid.ranges,
            radius=settings.center_sampling,
            inclusive=settings.range_ends == "inclusive",
            ignore=targets.ignore,
        )
        if not settings.ignore_crowd:
            assigned.index.clamp_(min=-1)  # what only a crowd covers is background, as in the authors' code
        return assigned

    def normalizers(self, assignments: Sequence[Assignment]) -> Tensor:
        """[2] number of positives and sum of centre-ness targets, averaged over the passes of one step on this device.

        The caller averages them over the devices, so that a step weighs every positive alike however it is split.
        """
        rows = [torch.stack((a.positives, a.centerness_sum)) for a in assignments]
        return torch.stack(rows).mean(dim=0)

    def __call__(
        self, outputs: HeadOutputs, scales: Tensor, targets: Targets, assigned: Assignment, norm: Tensor
    ) -> Losses:
        """Losses of one forward pass. `norm` is what `normalizers` gave, averaged over the devices."""
        settings, head = self.recipe.loss, self.recipe.model.head
        positives = norm[0].clamp(min=MIN_POSITIVES)
        weighted = settings.box_weight == "centerness"
        parts = detection_loss(
            outputs.class_logits,
            outputs.box_outputs,
            outputs.quality_logits,
            scales,
            index=assigned.index,
            boxes=targets.boxes,
            labels=targets.labels,
            strides=self.pyramid.strides,
            starts=self.pyramid.starts,
            units=self.units,
            activation=head.box_activation,
            box_loss=settings.box,
            box_weight=settings.box_weight,
            iou_smoothing=settings.iou_smoothing,
            quality=self.branch,
            alpha=settings.focal_alpha,
            gamma=settings.focal_gamma,
            positives=positives,
            box_normalizer=norm[1].clamp(min=MIN_CENTERNESS_SUM) if weighted else positives,
        )
        classification = parts.classification * settings.scale_class
        box = parts.box * settings.scale_box
        quality = parts.quality * settings.scale_quality
        return Losses(classification + box + quality, classification, box, quality)
