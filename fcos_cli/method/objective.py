"""What a training minimises: an assigner and losses put together, for any method.

A pass of a step goes through `goal` (what its locations learn) and `losses` (how wrong the outputs are). Between
the two the caller averages the goals' normalisers over passes and devices.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fcos_cli.geometry.pyramid import Pyramid
from fcos_cli.method.dense_head import DenseHead
from fcos_cli.method.interface import Assignment, Geometry, Outputs
from fcos_cli.method.registry import assigner_of, losses_of
from fcos_cli.method.table import AssignConfig, LossConfig
from fcos_cli.method.targets import Targets

RESERVED = frozenset({"iteration", "epoch", "loss", "positives", "lr", "images_per_second", "waiting"})
"""What the rows of metrics.jsonl hold beside the terms."""


class Goal(NamedTuple):
    """What the locations of one pass learn.

    Attributes:
        targets: the boxes.
        assignment: which location learns which of them.
        normalizers: float32 [K], what the terms are divided by, in the order of the losses' own names.
    """

    targets: Targets
    assignment: Assignment
    normalizers: Tensor


class Objective:
    """The training objective of a recipe.

    Args:
        assign: the recipe's `[assign]`.
        loss: its `[loss]`.
        head: of the model that is trained; losses may hold parameters of it.
        pyramid: its levels.

    Attributes:
        terms: names of the losses, in the order they are logged.
        needs_outputs: whether a goal can be set only after the forward pass.

    Raises:
        ValueError: a term has a name that the log uses for something else.
    """

    def __init__(self, assign: AssignConfig, loss: LossConfig, head: DenseHead, pyramid: Pyramid) -> None:
        assigner, losses = assigner_of(assign), losses_of(loss)
        self.assigner = assigner.build(assign, pyramid, head)
        self.losses_of_outputs = losses.build(loss, pyramid, head)
        self.needs_outputs = assigner.needs_outputs or losses.needs_outputs
        self.terms = tuple(self.losses_of_outputs.terms)
        if taken := RESERVED.intersection(self.terms):
            raise ValueError(f"a loss term cannot be called {', '.join(sorted(taken))}: the log uses the name")
        self._names: tuple[str, ...] = ()

    @torch.no_grad()
    def goal(self, targets: Targets, geometry: Geometry, outputs: Outputs | None = None, progress: float = 0.0) -> Goal:
        """Assigns a batch.

        Args:
            targets: the boxes, on the network's device.
            geometry: where the locations lie.
            outputs: the head's; needed where `needs_outputs`. No gradient flows through them here.
            progress: the share of the training that is done, 0 to 1.
        """
        seen = None
        if self.needs_outputs:
            if outputs is None:
                raise ValueError("this objective looks at the outputs: give them")
            seen = {name: [level.detach() for level in levels] for name, levels in outputs.items()}
        assignment = self.assigner.assign(targets, geometry, seen, progress)
        normalizers = self.losses_of_outputs.normalizers(targets, geometry, assignment, seen)
        self._names = tuple(normalizers)
        values = list(normalizers.values())
        return Goal(targets, assignment, torch.stack(values) if values else targets.boxes.new_zeros(0))

    def losses(self, outputs: Outputs, goal: Goal, normalizers: Tensor) -> dict[str, Tensor]:
        """A float32 scalar for each of `terms`; their sum is the loss. `normalizers` as `average` gives them."""
        named = dict(zip(self._names, normalizers, strict=True))
        return self.losses_of_outputs(outputs, goal.targets, goal.assignment, named)


def average(goals: Sequence[Goal]) -> Tensor:
    """Float32 [K], the mean of the goals' normalisers: of the passes of one step on one device."""
    return torch.stack([goal.normalizers for goal in goals]).mean(dim=0)
