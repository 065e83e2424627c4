"""Detection ops for FCOS-like detectors: assignment, losses, decoding, non-maximum suppression.

Imports torch and NumPy, on use triton, and knows nothing of the toolkit around it. Functions are in
`fcos_kernels.functional`: `from fcos_kernels.functional import assign, detection_loss`. One op is one folder, so that
`fcos_kernels.assign` is a package, which cannot be called; it holds the function and its types:
`from fcos_kernels.assign import assign, Assignment`. Modules load on first use, so that `fcos_kernels.paint` serves
programs that have no need of torch.
"""

from importlib import import_module
from types import ModuleType

from fcos_kernels.ops import OPS
from fcos_kernels.version import __version__ as __version__

__all__ = [op.folder for op in OPS] + ["box_loss", "dispatch", "focal_loss", "functional", "paint", "reference"]


def __getattr__(name: str) -> ModuleType:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return import_module(f"{__name__}.{name}")


def __dir__() -> list[str]:
    return sorted(__all__)
