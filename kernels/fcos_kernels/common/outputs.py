"""The outputs of a head, level by level, and the distances that its box outputs mean."""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from fcos_kernels.common.tensors import alike

MAX_EXPONENT = 40.0
MAX_DISTANCE = math.exp(MAX_EXPONENT)
"""Units: beyond every image, and its square, an area, is still a finite float32."""


class Outputs(NamedTuple):
    """Of a head, level by level; no qualities where there is no branch.

    classes, boxes, qualities: [N, C, H, W], [N, 4, H, W] and [N, 1, H, W].
    scales: [levels], factor of each level's box output.
    """

    classes: list[Tensor]
    boxes: list[Tensor]
    qualities: list[Tensor]
    scales: Tensor

    def dense(self) -> "Outputs":
        """All levels of an output in one memory format: as they are, or contiguous copies."""
        return Outputs(alike(self.classes), alike(self.boxes), alike(self.qualities), self.scales)

    def suit_triton(self) -> bool:
        """Whether all levels of an output have one dtype, and none is float64."""
        for group in (self.classes, self.boxes, self.qualities):
            kinds = {x.dtype for x in group}
            if len(kinds) > 1 or torch.float64 in kinds:
                return False
        return True


def activate(scaled_outputs: Tensor, activation: str) -> tuple[Tensor, Tensor]:
    """Distances in units from outputs times their scale, and the derivative; both float32 (float64), finite."""
    if activation == "exp":
        distance = scaled_outputs.clamp(max=MAX_EXPONENT).exp()
        return distance, torch.where(scaled_outputs <= MAX_EXPONENT, distance, 0.0)
    distance = scaled_outputs.clamp(0, MAX_DISTANCE)
    return distance, ((scaled_outputs > 0) & (scaled_outputs <= MAX_DISTANCE)).to(distance.dtype)
