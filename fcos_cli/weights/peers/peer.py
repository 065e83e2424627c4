"""What the toolkit knows of another project whose weights it reads."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from torch import Tensor

from fcos_cli.model.pixels import PixelFormat
from fcos_cli.recipe.schema import WeightStyle

State: TypeAlias = Mapping[str, Tensor]
"""A file's tensors by name."""


Meta: TypeAlias = Mapping[str, Any]
"""What a checkpoint says of itself beside its tensors; {} where it says nothing."""

Keys: TypeAlias = Mapping[str, Any]
"""Values of recipe keys by dotted name."""

IMPROVED: Keys = {
    "model.head.box_activation": "relu",
    "model.head.normalize_targets": True,
    "model.head.quality_tower": "regression",
}
"""What the improved FCOS's outputs mean."""
BASE: Keys = {
    "model.head.box_activation": "exp",
    "model.head.normalize_targets": False,
    "model.head.quality_tower": "classification",
}
"""What the outputs of the paper's first FCOS mean."""
SAMPLED: Keys = {"assign.center_sampling": 1.5, "loss.box": "giou"}
"""How the improved FCOS is trained."""


@dataclass(frozen=True)
class Question:
    """A recipe key that neither a project's code nor its file tells.

    Attributes:
        choices: TOML values, and what each would mean.
        to_run: whether inference depends on it; else only a training does.
    """

    key: str
    choices: tuple[tuple[str, str], ...]
    to_run: bool = True


@dataclass
class Reading:
    """The recipe of a peer's file.

    Attributes:
        keys: what holds, by the project's code or by the file.
        assumed: lines on what of `keys` is only usual in this project.
        questions: what must be given.
        classes: names of the classes, where the file has them.
        lacks: what the network needs that this toolkit does not have.
    """

    keys: dict[str, Any]
    assumed: list[str] = field(default_factory=list)
    questions: list[Question] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    lacks: list[str] = field(default_factory=list)


VARIANT = Question(
    "model.head.box_activation",
    (("exp", "the paper's first FCOS: distances are exp(s x)"), ("relu", "the improved one: relu(s x), in strides")),
)


def variant(given: Keys, reading: Reading) -> Reading:
    """The reading with the keys that follow from `model.head.box_activation`, or the question for it."""
    activation = given.get("model.head.box_activation")
    if activation not in ("exp", "relu"):
        reading.questions.append(VARIANT)
        return reading
    reading.keys |= {**IMPROVED, **SAMPLED} if activation == "relu" else BASE
    which = "improved" if activation == "relu" else "first"
    reading.assumed.append(
        f"units of the distances and place of the quality branch are those of the {which} FCOS; where they are not, "
        "set model.head.normalize_targets and model.head.quality_tower"
    )
    return reading


def pixel_keys(pixels: PixelFormat) -> dict[str, Any]:
    """The recipe's keys of a pixel format."""
    prefix = "model.backbone.pixel"
    return {f"{prefix}_order": pixels.order, f"{prefix}_mean": list(pixels.mean), f"{prefix}_std": list(pixels.std)}


def no_reading(state: State, meta: Meta, given: Keys) -> Reading:
    """The reading of files that say nothing about a recipe."""
    return Reading({})


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
        reading: (tensors by their own names, what the checkpoint says, keys that the user gives) -> the recipe that
            computes the same function; what its layers and their sizes show is not repeated in it.
    """

    recognised: Callable[[State], bool]
    to_ours: Callable[[State], dict[str, Tensor]]
    style: Callable[[State], WeightStyle | None] = style_unknown
    reading: Callable[[State, Meta, Keys], Reading] = no_reading


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
