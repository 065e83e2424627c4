"""What the implementations of `detection_loss` take and give, and constants they share."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fcos_kernels.common.outputs import Outputs

FLOAT16_GAIN = 2.0**13
"""float16 gradients wait unnormalised, times this, for the incoming gradient: divided by N_pos most would be 0."""


class Settings(NamedTuple):
    """What does not carry a gradient and is not a tensor; as `detection_loss` explains it."""

    strides: Sequence[int]
    starts: Sequence[int]
    units: Sequence[float]
    activation: str
    box_loss: str
    box_weight: str
    iou_smoothing: float
    quality: str
    alpha: float
    gamma: float


class AssignedTargets(NamedTuple):
    """The ground truth with each location's row of it (`index`), and the two normalisers."""

    index: Tensor  # type: ignore[assignment]
    boxes: Tensor
    labels: Tensor
    positives: Tensor
    box_normalizer: Tensor


class Gradients(NamedTuple):
    """Buffers for the gradients of `Outputs`, already divided by the normalisers; empty or None where none is wanted.

    They have the dtype of the outputs. Of float16, those of classes are times FLOAT16_GAIN and not divided, those of
    boxes and qualities float32.
    """

    classes: list[Tensor]
    boxes: list[Tensor]
    qualities: list[Tensor]
    scales: Tensor | None

    @staticmethod
    def empty(outputs: Outputs, for_classes: bool, for_boxes: bool) -> "Gradients":
        """Buffers in the memory format of dense outputs, not yet written."""

        def few(tensors: list[Tensor]) -> list[Tensor]:
            return [torch.empty_like(x, dtype=torch.float32 if x.dtype == torch.float16 else x.dtype) for x in tensors]

        return Gradients(
            [torch.empty_like(x) for x in outputs.classes] if for_classes else [],
            few(outputs.boxes) if for_boxes else [],
            few(outputs.qualities) if for_boxes else [],
            torch.empty_like(outputs.scales, memory_format=torch.contiguous_format) if for_boxes else None,
        )

    def flat(self) -> list[Tensor]:
        """Classes, boxes, qualities, scales."""
        return [*self.classes, *self.boxes, *self.qualities, *([] if self.scales is None else [self.scales])]
