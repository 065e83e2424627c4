"""What the parts of a method give each other: outputs, geometry, assignments, what decoding keeps. Imports no torch.

Shapes: N images, L locations of an image (levels in order, each row-major, x fastest), T boxes of the whole batch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from fcos_cli.geometry.pyramid import Pyramid
from fcos_cli.method.table import AssignConfig, HeadConfig, LossConfig

if TYPE_CHECKING:
    from torch import Tensor

Outputs: TypeAlias = dict[str, "list[Tensor]"]
"""A head's raw outputs by name, one tensor [N, channels, H_l, W_l] a level, finest first; "classification" is one."""


class Moment(NamedTuple):
    """When in a training something happens, and the seed of its random numbers."""

    iteration: int = 0
    iterations: int = 1
    seed: int = 0

    @property
    def progress(self) -> float:
        """The share of the training that is done, 0 to 1."""
        return self.iteration / self.iterations


class Geometry(NamedTuple):
    """Where the locations of a batch lie.

    Attributes:
        pyramid: levels, strides, ranges.
        height, width: of the padded input, in pixels.
        sizes: int64 [N, 2], height and width of each image before the padding, on the CPU.
    """

    pyramid: Pyramid
    height: int
    width: int
    sizes: Tensor

    @property
    def grids(self) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of each level."""
        return self.pyramid.grids(self.height, self.width)


@dataclass(frozen=True)
class Assignment:
    """What every location of a batch learns.

    Attributes:
        index: int32 [N, L], row of the targets' boxes; -1 background, -2 left out of the classification loss.
        positives: float32 scalar, number of index >= 0.
        sums: further float32 scalars by name that losses divide by, such as the sum of the centre-ness targets.
        weights: float32 [N, L], weight of each location, in the terms that the losses say; None: all the same.
        soft_labels: float32 [N, L], what its box's class should score there; None: 1.
        quality: float32 [N, L], target of the quality branch; None: the losses compute it from the boxes.
        auxiliary: another assignment of the same locations, for a method with an auxiliary loss.
    """

    index: Tensor
    positives: Tensor
    sums: Mapping[str, Tensor] = field(default_factory=dict)
    weights: Tensor | None = None
    soft_labels: Tensor | None = None
    quality: Tensor | None = None
    auxiliary: Assignment | None = None


class Selection(NamedTuple):
    """Which candidates a head's decoding keeps: the recipe's `[test]`, as heads see it.

    Attributes:
        threshold: what candidates must exceed.
        threshold_on: "class" holds the class probability against it, "score" the final score.
        rank_by: "score" or "class" picks the top candidates of a level.
        score: "sqrt" or "product" of class probability and quality.
        candidates: kept per level and image.
    """

    threshold: float
    threshold_on: str
    rank_by: str
    score: str
    candidates: int


class Tables(NamedTuple):
    """What of a recipe methods may judge: their tables, and the channels of the pyramid."""

    assign: AssignConfig
    head: HeadConfig
    loss: LossConfig
    channels: int


class Clash(NamedTuple):
    """Keys of a recipe that contradict each other, and the line that says so and what to set instead."""

    keys: tuple[str, ...]
    message: str
