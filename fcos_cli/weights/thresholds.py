"""Score thresholds of a detector's classes, in a file beside its weights: `best.safetensors`, `best.thresholds.json`.

A file of its own, because rewriting the weights to change their metadata would copy hundreds of megabytes, change their
checksum, and pull the file away under a process that reads it. The file names the weights by their SHA-256, so that
thresholds are never used with weights that they do not belong to. Test-time augmentation raises scores, so it has its
own (`best.tta.thresholds.json`). Imports no torch.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from fcos_cli.data.records import Categories
from fcos_cli.errors import WeightsError
from fcos_cli.evaluation.thresholds import OperatingPoint
from fcos_cli.files import atomic_file, sha256_of

FORMAT = "fcos-thresholds 1"


@dataclass(frozen=True)
class Thresholds:
    """Which detections to believe, class by class.

    Attributes:
        values: float64 [C], the smallest score of each of the model's labels. A class that the data set has no objects
            of, or that the detector never found there, has the median of the other classes' thresholds.
        measured: bool [C], the class has a threshold of its own.
        data: name of the data set they were computed on.
    """

    values: np.ndarray
    measured: np.ndarray
    data: str

    @property
    def text(self) -> str:
        """The range and where it is from, for a log."""
        own = self.values[self.measured]
        classes = "1 class" if len(own) == 1 else f"{len(own)} classes"
        rest = int((~self.measured).sum())
        others = f"; {rest} without objects or hits there: {np.median(own):.2f}" if rest else ""
        return f"{own.min():.2f} to {own.max():.2f}, best F1 of {classes} on {self.data}{others}"


def thresholds_path(weights: str | Path, *, tta: bool = False) -> Path:
    """Where the thresholds of a weights file are: `best.safetensors` -> `best.thresholds.json` beside it."""
    return Path(weights).with_suffix(".tta.thresholds.json" if tta else ".thresholds.json")


def save_thresholds(
    weights: str | Path,
    categories: Categories,
    points: Sequence[OperatingPoint],
    *,
    data: str,
    images: int,
    tta: bool = False,
) -> Path | None:
    """Writes the thresholds of `weights`; an older file is replaced only once the new one is whole.

    Args:
        weights: the detector's file.
        categories: its classes, in label order.
        points: the best point of each of them.
        data: name of the data set that they were computed on.
        images: how many images it has.
        tta: computed with test-time augmentation.

    Returns:
        The file; None where no class has a threshold: then nothing is written.

    Raises:
        OSError: it cannot be written, or the weights cannot be read.
    """
    if all(point.threshold is None for point in points):
        return None
    content = {
        "format": FORMAT,
        "weights": Path(weights).name,
        "sha256": sha256_of(weights),
        "data": data,
        "images": images,
        "iou": 0.5,
        "tta": tta,
        "classes": [
            {"id": category, "name": name, **point._asdict()}
            for category, name, point in zip(categories.ids, categories.names, points, strict=True)
        ],
    }
    path = thresholds_path(weights, tta=tta)
    with atomic_file(path, "w") as file:
        json.dump(content, file, ensure_ascii=False, indent=1)
        file.write("\n")
    return path


def load_thresholds(weights: str | Path, categories: Categories, *, tta: bool = False) -> Thresholds:
    """The thresholds stored with `weights`, of predictions with or without test-time augmentation.

    Raises:
        WeightsError: there are none, they belong to other weights, or the file is damaged.
    """
    path = thresholds_path(weights, tta=tta)
    command = f"compute them: fcos eval {weights}" + (" --tta" if tta else "")
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        passes = " for test-time augmentation" if tta else ""
        raise WeightsError(f"no thresholds{passes} are stored with {weights}", command) from None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{path} cannot be read: {error}", command) from error
    try:
        if content["format"] != FORMAT:
            raise WeightsError(f"{path} has format {content['format']!r}, this toolkit reads {FORMAT!r}", command)
        names = [entry["name"] for entry in content["classes"]]
        if content["sha256"] != sha256_of(weights) or names != list(categories.names):
            raise WeightsError(
                f"the thresholds in {path} were computed for other weights than {Path(weights).name} is now", command
            )
        return _filled(content)
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path} is damaged: {type(error).__name__}: {error}", command) from error


def _filled(content: dict[str, Any]) -> Thresholds:
    own = [entry["threshold"] for entry in content["classes"]]
    fallback = median(float(value) for value in own if value is not None)
    return Thresholds(
        np.array([fallback if value is None else float(value) for value in own]),
        np.array([value is not None for value in own]),
        str(content["data"]),
    )
