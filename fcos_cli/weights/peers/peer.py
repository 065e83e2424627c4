"""What the toolkit knows of another project whose weights it reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from torch import Tensor

from fcos_cli.recipe.schema import WeightStyle

State: TypeAlias = Mapping[str, Tensor]
"""A file's tensors by name."""


def style_unknown(state: State) -> WeightStyle | None:
    """The style of files that do not tell it."""
    return None


@dataclass(frozen=True)
class FileKind:
    """How a project names the tensors of one kind of file, and what they mean.

    Attributes:
        recognised: whether these are the names of such a file.
        to_ours: the same tensors under this toolkit's names and with its meaning; a name that no rule knows is kept,
            for the error that lists it. Names of a backbone's file come without "backbone.".
        style: the weight style that such a file implies; None where it implies none.
        trained_with: keys below `model` of the recipe that the weights were trained with: {"head.quality": ...}.
    """

    recognised: Callable[[State], bool]
    to_ours: Callable[[State], dict[str, Tensor]]
    style: Callable[[State], WeightStyle | None] = style_unknown
    trained_with: Mapping[str, object] = field(default_factory=lambda: MappingProxyType({}))


@dataclass(frozen=True)
class Peer:
    """Another project.

    Attributes:
        name: as it is written in code.
        title: as it is called in a sentence.
        detector: its files of a whole detector; None where there are none that this toolkit reads.
        backbone: its files of a backbone alone; None where there are none, or they have this toolkit's names.
    """

    name: str
    title: str
    detector: FileKind | None = None
    backbone: FileKind | None = None
