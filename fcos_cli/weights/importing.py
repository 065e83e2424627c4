"""A detector of another project as one of this toolkit: its tensors, and the recipe that computes the same function."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fcos_cli.errors import UsageError, WeightsError
from fcos_cli.files import sha256_of
from fcos_cli.model.fcos import FCOS
from fcos_cli.model.pixels import PixelFormat
from fcos_cli.recipe.load import merge, parse_override
from fcos_cli.recipe.problems import validate
from fcos_cli.recipe.schema import Recipe
from fcos_cli.weights.architecture import architecture, lacking
from fcos_cli.weights.classes import classes_of
from fcos_cli.weights.files import read_file
from fcos_cli.weights.names import detector_peer
from fcos_cli.weights.peers import PEERS, FileKind, Peer, Question, Reading
from fcos_cli.weights.peers.renaming import absorbed
from fcos_cli.weights.saved import Detector

ALIASES = {
    "mmdet": "mmdetection",
    "adet": "adelaidet",
    "d2": "detectron2",
    "tianzhi0549/fcos": "official",
    "fcos": "official",
}
COUNTER = "num_batches_tracked"
LARGEST_TABLE = 40
USUAL_GROUPS = 32
KEYS_OF_FCOS = {"model.backbone.weights": "", "model.backbone.frozen_stages": 2}


@dataclass(frozen=True)
class Imported:
    """What an import gives.

    Attributes:
        peer: the project that wrote the file.
        notes: what was assumed, a line each.
    """

    detector: Detector
    peer: Peer
    notes: tuple[str, ...]


def import_detector(
    path: Path,
    *,
    name: str = "",
    origin: str = "",
    classes: Sequence[str] = (),
    overrides: Sequence[str] = (),
    given: Mapping[str, Any] | None = None,
    to_run: bool = False,
) -> Imported:
    """Another project's detector in a model of this toolkit, every tensor of it placed.

    Args:
        path: the file.
        name: what to call it in errors and in the recipe; its path where it has no other.
        origin: the project, as `Peer.name` has it; "" recognises it by the names of its tensors.
        classes: names of its classes, in order; () takes those in the file, or COCO's where there are as many.
        overrides: KEY=VALUE of the recipe that is written; they also answer what the file does not tell.
        given: answers that are known already, below `overrides`.
        to_run: ask nothing that only a training depends on.

    Raises:
        WeightsError: a file that cannot be read, is of no known project, needs what the toolkit lacks, leaves something
            open, or does not fit.
        RecipeError: overrides that do not hold.
    """
    source = name or str(path)
    content = read_file(path)
    peer, kind = _recognise(content.tensors, origin, source)
    chosen = dict(given or {})
    for text in overrides:
        chosen |= _flat(parse_override(text))
    reading = kind.reading(content.tensors, content.meta, chosen)
    refuse_lacking(content.tensors, reading, source)
    state = completed(kind.to_ours(content.tensors))
    keys = {**KEYS_OF_FCOS, **architecture(state, source), **reading.keys, "model.weights": source}
    _ask_groups(keys, chosen, reading)
    ask(reading.questions, source, to_run=to_run)
    recipe = _recipe({**keys, **chosen}, peer, source)
    rows = state["head.class_logits.bias"].numel() if "head.class_logits.bias" in state else 0
    categories, used, note = classes_of(rows, classes or reading.classes, torchvision=peer.name == "torchvision")
    if used is not None:
        for part in ("weight", "bias"):
            state[f"head.class_logits.{part}"] = state[f"head.class_logits.{part}"][used]
    model = filled(recipe, len(categories), state, source)
    notes = [*reading.assumed, *([note] if note else [])]
    metadata = {"source": source, "source_sha256": sha256_of(path), "source_project": peer.name}
    return Imported(Detector(model.eval(), recipe, categories, path, metadata), peer, tuple(notes))


def refuse_lacking(state: Mapping[str, Tensor], reading: Reading, source: str) -> None:
    """Raises WeightsError where a file needs what the toolkit does not have."""
    if lacks := [*lacking(state), *reading.lacks]:
        raise WeightsError(
            f"{source} needs {' and '.join(lacks)}, which this toolkit does not have",
            "fcos weights list shows detectors that run here",
        )


def completed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a detector under our names with what other projects leave away: biases of 0, scales of 1."""
    whole = absorbed(state)
    for name in [name for name in whole if name.startswith("head.") and name.endswith("_tower.0.weight")]:
        prefix = name.removesuffix("0.weight")
        for weight in [other for other in whole if other.startswith(prefix) and whole[other].ndim == 4]:
            whole.setdefault(weight.removesuffix("weight") + "bias", torch.zeros(whole[weight].shape[0]))
    levels = sum(name.startswith(("fpn.output.", "fpn.extra.")) and name.endswith(".weight") for name in whole)
    whole.setdefault("head.scales", torch.ones(levels))
    return whole


def filled(recipe: Recipe, num_classes: int, state: Mapping[str, Tensor], source: str) -> FCOS:
    """The recipe's model with these tensors.

    Raises:
        WeightsError: tensors that are missing, left over or of another shape, in a table.
    """
    style = recipe.model.backbone.weight_style
    with torch.random.fork_rng(devices=[]):
        model = FCOS(recipe.model, num_classes, "pytorch" if style == "auto" else style)
    own = {name: value for name, value in model.state_dict().items() if not name.endswith(COUNTER)}
    rows = [(name, "missing", "", _shape(value)) for name, value in own.items() if name not in state]
    rows += [(name, "left over", _shape(value), "") for name, value in state.items() if name not in own]
    rows += [
        (name, "shape", _shape(state[name]), _shape(value))
        for name, value in own.items()
        if name in state and state[name].shape != value.shape
    ]
    if rows:
        raise WeightsError(
            f"{len(rows)} tensors of {source} do not fit the model\n{_table(rows)}",
            "where the file holds another network than its names say, set keys of model: --set model.head.convs=4",
        )
    model.load_state_dict({name: state[name] for name in own}, strict=False)
    return model


def _recognise(state: Mapping[str, Tensor], origin: str, source: str) -> tuple[Peer, FileKind]:
    known = {peer.name: peer for peer in PEERS if peer.detector is not None}
    origin = ALIASES.get(origin.lower(), origin.lower())
    if origin:
        if origin not in known:
            raise UsageError(f"--from {origin} is no project whose detectors are known", f"known: {', '.join(known)}")
        peer = known[origin]
        assert peer.detector is not None  # narrows the type for mypy
        if peer.detector.recognised(state):
            return peer, peer.detector
    elif found := detector_peer(state):
        return found
    titles = ", ".join(peer.title for peer in known.values())
    raise WeightsError(
        f"{source} does not hold a detector of {known[origin].title if origin else titles}; its tensors are "
        f"{', '.join(list(state)[:3])}, ...",
        "a backbone's weights go to a recipe: model.backbone.weights",
    )


def _flat(values: Mapping[str, Any], table: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        name = f"{table}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def _ask_groups(keys: Mapping[str, Any], chosen: Mapping[str, Any], reading: Reading) -> None:
    """Every project has 32 groups unless its configuration says otherwise; no tensor shows them."""
    key, channels = "model.head.groups", keys["model.pyramid.channels"]
    if keys["model.head.norm"] == "none" or key in keys or key in chosen:
        return
    if channels % USUAL_GROUPS == 0:
        return
    divisors = [count for count in (16, 8, 4, 2, 1) if channels % count == 0]
    choices = tuple((str(count), f"{channels // count} channels each") for count in divisors[:3])
    reading.questions.append(Question(key, choices))


def ask(questions: Sequence[Question], source: str, *, to_run: bool = False) -> None:
    """Raises WeightsError with every choice where a file leaves something open; `to_run`: that inference depends on."""
    open_ones = [question for question in questions if question.to_run or not to_run]
    if not open_ones:
        return
    lines = [
        f"  --set {question.key}={value}  {meaning}" for question in open_ones for value, meaning in question.choices
    ]
    names = " and ".join(question.key for question in open_ones)
    raise WeightsError(
        f"{source} does not tell {names}; choose\n" + "\n".join(lines),
        f"fcos weights import {source} --out model.safetensors --set {open_ones[0].key}={open_ones[0].choices[0][0]}",
    )


def _recipe(keys: Mapping[str, Any], peer: Peer, source: str) -> Recipe:
    values: dict[str, Any] = {"description": f"{source}, a detector of {peer.title}"[:200]}
    for key, value in keys.items():
        nested: Any = value
        for part in reversed(key.split(".")):
            nested = {part: nested}
        values = merge(values, nested)
    return validate(values, name=f"of {source}")


def _shape(tensor: Tensor) -> str:
    return str(list(tensor.shape))


def _table(rows: Sequence[tuple[str, ...]]) -> str:
    titles = ("tensor", "what", "in the file", "in the model")
    shown = [titles, *rows[:LARGEST_TABLE]]
    widths = [max(len(row[column]) for row in shown) for column in range(4)]
    lines = ["  " + "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in shown]
    if len(rows) > LARGEST_TABLE:
        lines.append(f"  and {len(rows) - LARGEST_TABLE} more")
    return "\n".join(lines)


def pixels_of(keys: Mapping[str, Any]) -> PixelFormat | None:
    """The pixel format in the keys of a reading; None where they have none."""
    prefix = "model.backbone.pixel"
    if f"{prefix}_mean" not in keys:
        return None
    return PixelFormat(keys[f"{prefix}_order"], tuple(keys[f"{prefix}_mean"]), tuple(keys[f"{prefix}_std"]))
