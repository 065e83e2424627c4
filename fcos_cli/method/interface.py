"""The seam between the toolkit and a detection method: what an assigner, a head and losses must offer.

A `Method` bundles the parts; each is described by its table of the recipe and builds itself when it is needed, so that
nothing here imports torch. What they give each other stands in `types.py`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from fcos_cli.geometry.pyramid import Pyramid
from fcos_cli.method.table import AssignConfig, HeadConfig, LossConfig
from fcos_cli.method.types import Assignment, Clash, Geometry, Moment, Outputs, Selection, Tables
from fcos_kernels.assign.paint import Claims

if TYPE_CHECKING:
    from torch import Tensor

    from fcos_cli.method.dense_head import DenseHead
    from fcos_cli.method.targets import Targets

__all__ = [
    "Assigner",
    "AssignerPart",
    "Assignment",
    "ClaimRule",
    "Clash",
    "Geometry",
    "HeadPart",
    "LossPart",
    "Losses",
    "Method",
    "Moment",
    "Outputs",
    "Selection",
    "Tables",
]


START = Moment()


class Assigner(Protocol):
    """Decides which location learns which box."""

    def assign(
        self, targets: Targets, geometry: Geometry, outputs: Outputs | None = None, moment: Moment = START
    ) -> Assignment:
        """The assignment of a batch; no gradient flows through it.

        Args:
            targets: the boxes, on the device of the network.
            geometry: where the locations lie.
            outputs: the head's, detached; given where the part says that it `needs_outputs`.
            moment: the step of the training; what is drawn at random depends on it, its seed and the batch alone.
        """
        ...


class Losses(Protocol):
    """Measures how wrong outputs are.

    An `nn.Module` with buffers keeps state, such as a moving average: it is saved with a training and restored. It must
    follow from averaged normalisers alone, or the processes drift apart.
    """

    @property
    def terms(self) -> tuple[str, ...]:
        """Names of the terms, in the order they are logged. Log, plots and benchmarks iterate over them."""
        ...

    @property
    def normalizer_names(self) -> tuple[str, ...]:
        """Names of the normalisers, the same for every batch and process."""
        ...

    def normalizers(
        self, targets: Targets, geometry: Geometry, assignment: Assignment, outputs: Outputs | None = None
    ) -> dict[str, Tensor]:
        """Scalars that the terms are divided by, one for each of `normalizer_names`.

        The trainer averages them over the devices, and over the passes of a step where nothing `needs_outputs`, so that
        a step weighs every positive alike however it is split. `outputs` is given where the part says that it
        `needs_outputs`.
        """
        ...

    def __call__(
        self,
        outputs: Outputs,
        targets: Targets,
        geometry: Geometry,
        assignment: Assignment,
        normalizers: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """A float32 scalar for each of `terms`, weighted as the recipe says; their sum is the loss.

        Without positives every term stays connected to the outputs, and is finite.
        """
        ...


Rule = Callable[[Tables], Iterator[Clash]]


def no_rule(tables: Tables) -> Iterator[Clash]:
    """The rule of a part that goes with everything."""
    return iter(())


class ClaimRule(ABC):
    """An assignment by geometry alone as claims of boxes on cells: what statistics of whole data sets count."""

    @abstractmethod
    def claims(
        self, config: Any, boxes: np.ndarray, offsets: np.ndarray, pyramid: Pyramid, grids: np.ndarray
    ) -> Claims:
        """The cells that each box may have, in painting order: a cell belongs to the last box painted on it.

        Args:
            config: the assigner's table.
            boxes: float32 [T, 4] xyxy in input pixels, image after image.
            offsets: int64 [N + 1]; image n owns the rows offsets[n] .. offsets[n + 1].
            pyramid: the levels.
            grids: int64 [N, levels, 2], (rows, columns) of each image's levels.
        """

    def levels(self, config: Any, longer: np.ndarray, pyramid: Pyramid) -> np.ndarray:
        """bool [K, levels]: the levels that may learn a box of so long a side, float [K] in input pixels, at all."""
        return np.ones((len(longer), len(pyramid.levels)), dtype=bool)


@dataclass(frozen=True)
class AssignerPart:
    """An assigner as a method gives it.

    Attributes:
        table: its `[assign]` table.
        build: (its table, the pyramid, the head) -> the assigner. The head tells how outputs are decoded.
        needs_outputs: whether `assign` looks at the network's outputs. Then it runs after the forward pass.
        gives: which of "weights", "soft_labels" and "quality" its assignments carry.
        claims: the same for statistics; None where the assignment depends on the network.
        rule: what the part cannot go together with.
    """

    table: type[AssignConfig]
    build: Callable[[Any, Pyramid, DenseHead], Assigner]
    needs_outputs: bool = False
    gives: frozenset[str] = frozenset()
    claims: ClaimRule | None = None
    rule: Rule = no_rule


@dataclass(frozen=True)
class HeadPart:
    """A head as a method gives it.

    Attributes:
        table: its `[model.head]` table.
        build: (its table, channels of the pyramid, classes, the pyramid) -> the module.
        outputs: (its table, classes) -> channels of each output by name, such as 4 or 4 (reg_max + 1) of "box".
        rule: what the part cannot go together with.
    """

    table: type[HeadConfig]
    build: Callable[[Any, int, int, Pyramid], DenseHead]
    outputs: Callable[[Any, int], dict[str, int]]
    rule: Rule = no_rule


@dataclass(frozen=True)
class LossPart:
    """Losses as a method gives them.

    Attributes:
        table: their `[loss]` table.
        build: (their table, the pyramid, the head) -> the losses.
        needs_outputs: whether `normalizers` looks at the network's outputs.
        takes: which of "weights", "soft_labels" and "quality" they use; an assigner that gives others is refused.
        needs: which of these they cannot do without; an assigner that does not give them is refused.
        rule: what the part cannot go together with.
    """

    table: type[LossConfig]
    build: Callable[[Any, Pyramid, DenseHead], Losses]
    needs_outputs: bool = False
    takes: frozenset[str] = frozenset()
    needs: frozenset[str] = frozenset()
    rule: Rule = no_rule


@dataclass(frozen=True)
class Method:
    """A method: its name in recipes, one line about it, and the parts that are its own."""

    name: str
    summary: str
    assigner: AssignerPart | None = None
    head: HeadPart | None = None
    losses: LossPart | None = None
