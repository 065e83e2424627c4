"""A detector as one file: safetensors whose metadata says how to build it again and what its classes are called."""

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import torch
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from fcos_cli.data.records import Categories
from fcos_cli.errors import WeightsError
from fcos_cli.files import atomic_file
from fcos_cli.method.registry import broken_methods
from fcos_cli.model.fcos import FCOS
from fcos_cli.model.pixels import PixelFormat
from fcos_cli.recipe.schema import Recipe, WeightStyle
from fcos_cli.runs import find_weights
from fcos_cli.version import __version__

FORMAT = "fcos-detector"
FORMAT_VERSION = 1
_OWN_KEYS = ("format", "class_ids", "class_names", "weight_style", "pixels", "recipe", "toolkit_version")


@dataclass
class Detector:
    """A model with all that belongs to it.

    Attributes:
        model: in evaluation mode, on the device that was asked for.
        recipe: the resolved recipe it was trained with.
        categories: ids and names of its classes, as in the data set it was trained on.
        path: the file it came from.
        metadata: everything the file says about itself, as text.
    """

    model: FCOS
    recipe: Recipe
    categories: Categories
    path: Path
    metadata: dict[str, str]


def save_detector(
    path: str | Path, model: FCOS, recipe: Recipe, categories: Categories, extra: dict[str, str] | None = None
) -> None:
    """Write `model` to a .safetensors file; an older file is replaced only once the new one is whole.

    Args:
        path: the file; its folder is made where it is missing.
        model: the detector, on any device and in any memory format.
        recipe: the resolved recipe.
        categories: ids and names of the classes, as many as the model has.
        extra: more to say about the weights, such as the iteration and the metrics.

    Raises:
        OSError: the file cannot be written.
        ValueError: `extra` uses one of the format's own keys, or the classes are not as many as the model's.
    """
    if len(categories) != model.num_classes:
        raise ValueError(f"the model has {model.num_classes} classes, {len(categories)} were given")
    if clash := set(extra or ()) & set(_OWN_KEYS):
        raise ValueError(f"the format keeps these keys for itself: {', '.join(sorted(clash))}")
    metadata = {
        "format": f"{FORMAT} {FORMAT_VERSION}",
        "toolkit_version": __version__,
        "class_ids": json.dumps(list(categories.ids)),
        "class_names": json.dumps(list(categories.names), ensure_ascii=False),
        "weight_style": model.style,
        "pixels": json.dumps(model.pixels.as_json()),
        "recipe": json.dumps(_json_safe(recipe.model_dump(mode="python")), allow_nan=False, ensure_ascii=False),
        **(extra or {}),
    }
    with atomic_file(path) as file:
        file.write(save(_separate(model.state_dict()), metadata))


def load_detector(spec: str | Path, device: str | torch.device = "cpu") -> Detector:
    """The detector in a .safetensors file, or in a run folder (its best weights, else its last).

    Raises:
        WeightsError: nothing is there, it is something else, or it does not fit this toolkit.
    """
    path = find_weights(spec)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = dict(file.metadata() or {})
            _check_format(path, metadata)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dictionary
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from error
    categories, recipe, style, pixels = _read_metadata(path, metadata)
    # Building draws random numbers for weights that are replaced at once: the caller's random state stays as it is.
    with torch.random.fork_rng(devices=[]):
        model = FCOS(recipe.model, len(categories), style, pixels)
    _check_tensors(path, tensors, model.state_dict())
    model.load_state_dict(tensors)
    return Detector(model.to(device).eval(), recipe, categories, path, metadata)


def metadata_of(path: Path) -> dict[str, str] | None:
    """What a safetensors file says of itself; None where it is no such file."""
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return dict(file.metadata() or {})
    except (SafetensorError, OSError):
        return None


def _separate(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Row-major CPU copies that share no memory, as the format wants them."""
    tensors: dict[str, Tensor] = {}
    seen: set[int] = set()
    for name, tensor in state.items():
        value = tensor.detach().cpu().contiguous()
        if value.untyped_storage().data_ptr() in seen:
            value = value.clone()
        seen.add(value.untyped_storage().data_ptr())
        tensors[name] = value
    return tensors


def _json_safe(value: Any) -> Any:
    """The same value for JSON, which has no infinity: a float that is not finite becomes "inf", "-inf" or "nan".

    pydantic reads these words back as floats, where it is not strict.
    """
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _json_safe(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json_safe(item) for item in value]
    return value


def _check_format(path: Path, metadata: dict[str, str]) -> None:
    name, _, version = metadata.get("format", "").partition(" ")
    if name != FORMAT or not version.isdigit():
        raise WeightsError(
            f"{path} is a safetensors file, but not a detector of this toolkit: its metadata lacks `format = {FORMAT}`",
            "give a file from a run's checkpoints folder; backbone weights go to the recipe: model.backbone.weights",
        )
    if int(version) > FORMAT_VERSION:
        writer = metadata.get("toolkit_version", "unknown")
        raise WeightsError(
            f"{path} has format {version}, written by toolkit {writer}; "
            f"this toolkit, {__version__}, reads up to format {FORMAT_VERSION}",
            "update the toolkit: pip install --upgrade fcos-toolkit",
        )


def _read_metadata(path: Path, metadata: dict[str, str]) -> tuple[Categories, Recipe, WeightStyle, PixelFormat | None]:
    try:
        categories = Categories(
            tuple(int(i) for i in json.loads(metadata["class_ids"])),
            tuple(str(n) for n in json.loads(metadata["class_names"])),
        )
        recipe = Recipe.model_validate(json.loads(metadata["recipe"]), strict=False)
        style = metadata["weight_style"]
        if style not in get_args(WeightStyle):
            raise ValueError(f"weight_style is {style!r}")
        # Older files have none: then the style says it.
        pixels = PixelFormat.from_json(json.loads(metadata["pixels"])) if "pixels" in metadata else None
    except KeyError as error:
        raise WeightsError(f"{path} lacks {error} in its metadata") from error
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(str(part) for part in first["loc"])
        if first["type"] == "union_tag_invalid":
            method = first["input"]["name"]
            reason = broken_methods().get(method, "install the package that brings it")
            raise WeightsError(f"{path} is of the method {method!r}, which is not installed", reason) from error
        raise WeightsError(
            f"the recipe stored in {path} does not fit toolkit {__version__}: {key}: {first['msg']}",
            f"it was written by toolkit {metadata.get('toolkit_version', 'unknown')}; use that version",
        ) from error
    except (ValueError, TypeError) as error:
        raise WeightsError(f"the metadata of {path} is damaged: {error}") from error
    return categories, recipe, cast(WeightStyle, style), pixels


def _check_tensors(path: Path, stored: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    """Compare names and shapes before loading, so that the error is short and says what differs."""
    wrong = [f"{name} is missing" for name in wanted if name not in stored]
    wrong += [f"{name} is unknown" for name in stored if name not in wanted]
    wrong += [
        f"{name} is {list(stored[name].shape)}, the recipe's model has {list(tensor.shape)}"
        for name, tensor in wanted.items()
        if name in stored and stored[name].shape != tensor.shape
    ]
    if wrong:
        more = f"; and {len(wrong) - 4} more" if len(wrong) > 4 else ""
        raise WeightsError(f"the tensors in {path} do not fit its own recipe: {'; '.join(wrong[:4])}{more}")


def _unreadable(path: Path, error: Exception) -> WeightsError:
    """What a file that is not safetensors looks like, and what can be done with it."""
    try:
        with open(path, "rb") as file:
            start = file.read(64)
    except OSError as reason:
        return WeightsError(f"{path} cannot be read: {reason.strerror or reason}")
    if not start:
        return WeightsError(f"{path} is empty", "its writing or its download was cut off: fetch or train it again")
    if start.startswith(b"version https://git-lfs"):
        return WeightsError(f"{path} is a Git LFS pointer, not the weights", "fetch the file itself: git lfs pull")
    # A length of eight bytes that begins like a pickle is still followed by the header of a safetensors file.
    if start.startswith((b"PK\x03\x04", b"\x80")) and start[8:9] != b"{":
        return WeightsError(
            f"{path} looks like a PyTorch or pickle file (.pth, .pkl), not safetensors",
            f"train from it: fcos train RECIPE --set 'model.weights=\"{path}\"'; the run's own weights are safetensors",
        )
    if start.lstrip().startswith(b"<"):
        return WeightsError(f"{path} is a web page, not weights", "its address is wrong, or asks for a login")
    return WeightsError(
        f"{path} is not a whole safetensors file: {error}", "it may have been cut off: fetch or train it again"
    )
