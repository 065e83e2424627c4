"""torchvision's FCOS, which the benchmarks are held against. torchvision is an extra of the installation."""

import importlib
from typing import Any

import torch

from fcos_cli.errors import SetupError

EXTRA = "fcos-toolkit[torchvision]"


def torchvision_fcos(classes: int, short_side: int, long_side: int, **options: Any) -> Any:
    """torchvision's `fcos_resnet50_fpn` with random weights, in training mode on the CPU.

    Args:
        classes: of the detector.
        short_side, long_side: what its transform resizes images to, in pixels.
        options: of `fcos_resnet50_fpn`.

    Raises:
        SetupError: torchvision is not installed, or does not import here.
    """
    try:
        module = importlib.import_module("torchvision.models.detection")
    except ModuleNotFoundError as error:
        if error.name != "torchvision":
            raise broken_torchvision("does not import here", error) from None
        raise SetupError("torchvision is not installed", f"pip install '{EXTRA}'") from None
    except (ImportError, RuntimeError, OSError) as error:
        raise broken_torchvision("does not import here", error) from None
    sizes = {"min_size": short_side, "max_size": long_side}
    return module.fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=classes, **sizes, **options)


def broken_torchvision(how: str, error: Exception) -> SetupError:
    """The error about a torchvision that is installed and does not work, mostly as it was built for another PyTorch."""
    reason = (str(error).strip() or type(error).__name__).splitlines()[0]
    return SetupError(
        f"torchvision {how}: {reason}",
        f"it must be built for torch {torch.__version__}: pip uninstall both, then pip install '{EXTRA}' in one go",
    )
