"""FCOS toolkit: train, evaluate, understand and run fully convolutional one-stage detectors (arXiv 1904.01355)."""

from pathlib import Path
from typing import TYPE_CHECKING

from fcos_cli.version import __version__

if TYPE_CHECKING:
    from fcos_cli.predict.api import Model
    from fcos_cli.recipe.schema import Precision

__all__ = ["__version__", "load"]


def load(weights: str | Path | None = None, *, device: str = "auto", precision: "Precision" = "auto") -> "Model":
    """A trained detector, ready to `predict`. This package is light: torch is imported here, not before.

    >>> from fcos_cli import load
    >>> model = load("runs/shapes")  # doctest: +SKIP
    >>> model.predict("photo.png", threshold="auto")  # doctest: +SKIP
    <Prediction of photo.png, 166x151 pixels: circle 0.86, ring 0.81, crescent 0.75, square 0.64>

    Args:
        weights: a .safetensors file, a run folder or a run's name; None is the newest run's best.
        device: auto, cpu, cuda, cuda:1, ...
        precision: auto (bfloat16 where the device is fast at it), float32, bfloat16, float16.

    Raises:
        WeightsError: nothing is there, or it is no detector of this toolkit.
        SetupError: the machine has no such device or precision.
    """
    from fcos_cli.predict import api

    return api.load(weights, device=device, precision=precision)
