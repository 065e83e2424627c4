"""Which device and which precision to compute with, and why: the choice is always said."""

from contextlib import AbstractContextManager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import torch

from fcos_cli.errors import SetupError
from fcos_cli.recipe.schema import Precision as PrecisionName

_CPU_FLAGS = Path("/proc/cpuinfo")
_DTYPES: dict[PrecisionName, torch.dtype | None] = {
    "float32": None,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
}


@dataclass(frozen=True)
class Precision:
    """What a network computes in.

    Attributes:
        dtype: what autocast computes in; None is plain float32.
        reason: one phrase for the log, such as "bfloat16: this CPU has AMX".
        device_type: "cpu", "cuda", ...
    """

    dtype: torch.dtype | None
    reason: str
    device_type: str

    @property
    def name(self) -> PrecisionName:
        """float32, bfloat16 or float16, as a recipe writes it."""
        return next(name for name, dtype in _DTYPES.items() if dtype == self.dtype)

    def autocast(self) -> AbstractContextManager[None]:
        """Compute in this precision inside the block."""
        return torch.autocast(self.device_type, dtype=self.dtype or torch.bfloat16, enabled=self.dtype is not None)


def choose_precision(requested: PrecisionName, device: torch.device | str, *, inference: bool = False) -> Precision:
    """The precision to compute with on `device`; "auto" takes bfloat16 where the device is fast at it.

    Args:
        requested: "auto" or a wish.
        device: "cpu", "cuda:1", ...
        inference: for a network prepared for inference: there the dot products of AVX-512 pay, which are not enough in
            a training, with its casts at each step.

    Raises:
        SetupError: the device cannot compute in the requested precision.
    """
    device = torch.device(device)
    if requested == "auto":
        return _fastest(device, inference)
    if device.type == "cpu" and requested == "float16":
        raise SetupError("float16 is for GPUs; this is the CPU", "use bfloat16, float32 or auto")
    if device.type == "cuda" and requested == "bfloat16" and not _cuda_has_bfloat16(device):
        name = torch.cuda.get_device_name(device)
        raise SetupError(f"{name} does not compute in bfloat16", "use float16, float32 or auto")
    note = ""
    if device.type == "cpu" and requested == "bfloat16" and not (cpu_has_amx() or (inference and cpu_has_dots())):
        note = "; this CPU has no AMX, float32 may be faster"
    return Precision(_DTYPES[requested], f"{requested}: as asked{note}", device.type)


def _fastest(device: torch.device, inference: bool) -> Precision:
    if device.type == "cuda":
        name = torch.cuda.get_device_name(device)
        if _cuda_has_bfloat16(device):
            return Precision(torch.bfloat16, f"bfloat16: {name} has it", device.type)
        return Precision(None, f"float32: {name} has no bfloat16", device.type)
    if device.type == "cpu" and cpu_has_amx():
        return Precision(torch.bfloat16, "bfloat16: this CPU has AMX", device.type)
    if device.type == "cpu" and inference and cpu_has_dots():
        return Precision(torch.bfloat16, "bfloat16: this CPU has AVX512-BF16", device.type)
    what = (
        f"this CPU has no AMX{' or AVX512-BF16' if inference else ''}"
        if device.type == "cpu"
        else f"the default on {device.type}"
    )
    return Precision(None, f"float32: {what}", device.type)


@cache
def cpu_has_amx() -> bool:
    """Whether the CPU has bfloat16 matrix tiles that PyTorch uses (Intel AMX through oneDNN)."""
    return _cpu_has("amx_bf16")


@cache
def cpu_has_dots() -> bool:
    """Whether the CPU has bfloat16 dot products that PyTorch uses (AVX512-BF16 through oneDNN)."""
    return _cpu_has("avx512_bf16")


def _cpu_has(flag: str) -> bool:
    if not torch.backends.mkldnn.is_available():
        return False
    try:
        return flag in _CPU_FLAGS.read_text().split()
    except OSError:
        return False


def _cuda_has_bfloat16(device: torch.device) -> bool:
    with torch.cuda.device(device):
        return torch.cuda.is_bf16_supported(including_emulation=False)


def choose_device(requested: str = "auto") -> torch.device:
    """The device of that name; "auto" is the first CUDA device where there is one, else the CPU.

    Raises:
        SetupError: no such device on this machine.
    """
    if requested == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(requested)
    except RuntimeError:
        device = None
    names = available_devices()
    if device is None or (str(device) not in names and not (device.index is None and f"{device.type}:0" in names)):
        raise SetupError(f"there is no device {requested!r} here", f"available: auto, {', '.join(names)}")
    return device


def available_devices() -> list[str]:
    """Names of the devices of this machine, the CPU first."""
    names = ["cpu"] + [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return names + (["mps"] if torch.backends.mps.is_available() else [])
