"""What a training minimises: an assigner and losses put together, for any method.

A pass of a step goes through `goal` (what its locations learn) and `losses` (how wrong the outputs are). Between
the two the caller averages the goals' normalisers over passes and devices. What a method's parts give is checked by
name, shape and type, without waiting for a GPU.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from fcos_cli.errors import MethodError
from fcos_cli.geometry.pyramid import Pyramid
from fcos_cli.method.dense_head import DenseHead
from fcos_cli.method.interface import START, Assignment, Geometry, Moment, Outputs
from fcos_cli.method.registry import assigner_of, losses_of
from fcos_cli.method.table import AssignConfig, LossConfig
from fcos_cli.method.targets import Targets

RESERVED = frozenset({"iteration", "epoch", "loss", "positives", "lr", "images_per_second", "waiting"})
"""What the rows of metrics.jsonl hold beside the terms and the evaluation's figures, which have capital letters."""
_TERM = re.compile("[a-z][a-z0-9_]*")


class Goal(NamedTuple):
    """What the locations of one pass learn.

    Attributes:
        targets: the boxes.
        geometry: where the locations lie.
        assignment: which location learns which of the boxes.
        normalizers: float32 [K], what the terms are divided by, in the order of the losses' `normalizer_names`.
    """

    targets: Targets
    geometry: Geometry
    assignment: Assignment
    normalizers: Tensor


class Objective(nn.Module):
    """The training objective of a recipe. Its state dict is that of the parts that are modules.

    Args:
        assign: the recipe's `[assign]`.
        loss: its `[loss]`.
        head: of the model that is trained; losses may hold parameters of it.
        pyramid: its levels.
        channels: of each of the head's outputs, as its method declares them; None: not checked.

    Attributes:
        terms: names of the losses, in the order they are logged.
        needs_outputs: whether a goal can be set only after the forward pass.

    Raises:
        MethodError: a term has a name that the log uses for something else.
    """

    def __init__(
        self,
        assign: AssignConfig,
        loss: LossConfig,
        head: DenseHead,
        pyramid: Pyramid,
        channels: Mapping[str, int] | None = None,
    ) -> None:
        super().__init__()
        assigner, losses = assigner_of(assign), losses_of(loss)
        self.assigner = assigner.build(assign, pyramid, head)
        self.losses_of_outputs = losses.build(loss, pyramid, head)
        self.needs_outputs = assigner.needs_outputs or losses.needs_outputs
        self.channels = channels
        self._assigner_name = f'the assigner of method "{assign.name}"'
        self._losses_name = f'the losses of method "{loss.name}"'
        self.terms = tuple(self.losses_of_outputs.terms)
        unfit = [name for name in self.terms if name in RESERVED or not _TERM.fullmatch(name)]
        if unfit or len(set(self.terms)) < len(self.terms) or not self.terms:
            raise MethodError(
                f"{self._losses_name} have the terms {', '.join(self.terms) or '(none)'}",
                f"names are different, in lower-case letters, and none of {', '.join(sorted(RESERVED))}",
            )

    @torch.no_grad()
    def goal(
        self, targets: Targets, geometry: Geometry, outputs: Outputs | None = None, moment: Moment = START
    ) -> Goal:
        """Assigns a batch.

        Args:
            targets: the boxes, on the network's device.
            geometry: where the locations lie.
            outputs: the head's; needed where `needs_outputs`. No gradient flows through them here.
            moment: the step of the training.

        Raises:
            MethodError: the assigner or the losses do not give what they have to.
        """
        seen = None
        if self.needs_outputs:
            if outputs is None:
                raise ValueError("this objective looks at the outputs: give them")
            seen = {name: [level.detach() for level in levels] for name, levels in outputs.items()}
        assignment = self.assigner.assign(targets, geometry, seen, moment)
        self._check_assignment(assignment, len(targets.offsets) - 1, geometry)
        normalizers = self.losses_of_outputs.normalizers(targets, geometry, assignment, seen)
        names = self.losses_of_outputs.normalizer_names
        values = _named_scalars(normalizers, names, f"{self._losses_name}: normalizers")
        stacked = torch.stack([value.float() for value in values]) if values else targets.boxes.new_zeros(0)
        return Goal(targets, geometry, assignment, stacked)

    def losses(self, outputs: Outputs, goal: Goal, normalizers: Tensor) -> dict[str, Tensor]:
        """A float32 scalar for each of `terms`, in their order; their sum is the loss.

        Args:
            outputs: the head's.
            goal: what the same batch learns.
            normalizers: float32 [K], as `average` gives them, averaged over the devices.

        Raises:
            MethodError: head or losses do not give what they have to.
        """
        self._check_outputs(outputs, goal.geometry)
        named = dict(zip(self.losses_of_outputs.normalizer_names, normalizers, strict=True))
        given = self.losses_of_outputs(outputs, goal.targets, goal.geometry, goal.assignment, named)
        values = _named_scalars(given, self.terms, f"{self._losses_name}: terms")
        if torch.is_grad_enabled():
            loose = [name for name, value in zip(self.terms, values, strict=True) if not value.requires_grad]
            if loose:
                raise MethodError(f"{self._losses_name}: {', '.join(loose)} is not connected to the outputs")
        return dict(zip(self.terms, values, strict=True))

    def _check_assignment(self, given: Any, images: int, geometry: Geometry) -> None:
        if not isinstance(given, Assignment):
            raise MethodError(f"{self._assigner_name} gave a {type(given).__name__}, not an Assignment")
        locations = sum(rows * columns for rows, columns in geometry.grids)
        index = given.index
        wanted = f"int32 [{images}, {locations}] or a multiple of its columns"
        if not isinstance(index, Tensor):
            raise MethodError(f"{self._assigner_name}: index must be {wanted}, not a {type(index).__name__}")
        fits = index.dim() == 2 and len(index) == images and index.shape[1] and index.shape[1] % locations == 0
        if index.dtype != torch.int32 or not fits:
            raise MethodError(f"{self._assigner_name}: index must be {wanted}, not {index.dtype} {list(index.shape)}")
        if not isinstance(given.positives, Tensor) or given.positives.dim():
            raise MethodError(f"{self._assigner_name}: positives must be a tensor without dimensions")

    def _check_outputs(self, outputs: Outputs, geometry: Geometry) -> None:
        if self.channels is None:
            return
        wanted = {name: [(channels, *grid) for grid in geometry.grids] for name, channels in self.channels.items()}
        given = {name: [tuple(level.shape[1:]) for level in levels] for name, levels in outputs.items()}
        if given != wanted:
            raise MethodError(f"the head gave outputs (channels, rows, columns) {given}, its method declares {wanted}")


def _named_scalars(given: Any, names: Sequence[str], what: str) -> list[Tensor]:
    """The values of a dictionary in the order of `names`, tensors without dimensions, or a MethodError."""
    if not isinstance(given, Mapping) or set(given) != set(names):
        keys = ", ".join(map(str, given)) if isinstance(given, Mapping) else type(given).__name__
        raise MethodError(f"{what} must be a dictionary of {', '.join(names) or 'nothing'}, not {keys}")
    for name in names:
        value = given[name]
        if not isinstance(value, Tensor) or value.dim():
            kind = list(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise MethodError(f"{what}: {name} must be a tensor without dimensions, not {kind}")
    return [given[name] for name in names]


def average(goals: Sequence[Goal]) -> Tensor:
    """Float32 [K], the mean of the goals' normalisers: of the passes of one step on one device."""
    return torch.stack([goal.normalizers for goal in goals]).mean(dim=0)
