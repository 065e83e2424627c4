"""What a training needs to go on as if nothing had happened: one file, replaced whole or not at all."""

import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from fcos_cli.errors import SetupError, WeightsError
from fcos_cli.files import atomic_file
from fcos_cli.recipe.schema import WeightStyle

FORMAT = 3
READS = (2, FORMAT)
"""Format 2 has no pixels: they are those of its style."""


@dataclass
class TrainingState:
    """Everything that changes while training.

    Attributes:
        iteration: optimiser steps done.
        style: stride placement of the weights; those it started from chose it, not the recipe alone.
        model: state dict of the trained weights.
        optimizer: state dict of the optimiser.
        averaged: state dict of the averaged weights, where the recipe asks for them.
        scaler: state dict of the float16 loss scaler, where there is one.
        rng: torch's CPU generator state.
        objective: state dict of the assigner and the losses, where they keep state.
        pixels: the pixel format of the weights, as `PixelFormat.as_json` has it.
    """

    iteration: int
    style: WeightStyle
    model: dict[str, Any]
    optimizer: dict[str, Any]
    averaged: dict[str, Any] | None
    scaler: dict[str, Any] | None
    rng: torch.Tensor
    pixels: dict[str, Any] | None = None
    objective: dict[str, Any] | None = None


def save_state(path: Path, state: TrainingState) -> None:
    """Writes the state atomically: a full disk or a kill leaves the former file as it was.

    Raises:
        SetupError: the disk is full or the folder cannot be written to.
    """
    fields = {name: getattr(state, name) for name in state.__dataclass_fields__}
    try:
        with atomic_file(path) as file:
            torch.save({"format": FORMAT, **fields}, file)
    except (OSError, RuntimeError) as error:  # torch's writer reports a full disk as a RuntimeError
        raise unwritable(path, error, state) from error


def unwritable(path: Path, error: Exception, state: TrainingState) -> SetupError:
    """What to tell when a file of a checkpoint cannot be written: why, and how to go on."""
    tensors = [*state.model.values(), *(state.averaged or {}).values()]
    tensors += [t for entry in state.optimizer["state"].values() for t in entry.values() if torch.is_tensor(t)]
    needed = sum(tensor.nbytes for tensor in tensors)
    with suppress(OSError):
        if shutil.disk_usage(path.parent).free < needed:
            error = OSError(f"the disk is full, {needed / 2**20:.0f} MiB are needed")
    former = path.with_name("last.state.pt").is_file()
    again = f"fcos train --resume {path.parent.parent}" if former else "train again"
    return SetupError(f"cannot write the checkpoint {path}: {error}", f"free some space, then: {again}")


def load_state(path: Path) -> TrainingState:
    """Reads what `save_state` wrote.

    Raises:
        WeightsError: the file is missing, damaged or from a newer version.
    """
    try:
        fields = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError(
            f"cannot read the training state {path}: {error}",
            f"start anew from the weights: --set model.weights={path.with_name('last.safetensors')}",
        ) from error
    if fields.pop("format", None) not in READS:
        raise WeightsError(f"{path} was written by another version of the toolkit", "update fcos-toolkit")
    return TrainingState(**fields)
