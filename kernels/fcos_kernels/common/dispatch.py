"""Which implementation an op runs: the Triton kernels where the tensors lie on a GPU, plain PyTorch elsewhere.

    auto       Triton on CUDA (and ROCm) devices where the package triton can be imported, else plain PyTorch
    reference  plain PyTorch everywhere
    triton     Triton everywhere; on the CPU that needs its interpreter: TRITON_INTERPRET=1 before triton is imported

The choice is one per process; where it is auto, the environment variable FCOS_KERNELS has a say. It is read when an op
runs, below torch.compile, so a compiled model follows it, too. Nothing imports triton before an op is to run it.
"""

import importlib.util
import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Literal, get_args

import torch

Choice = Literal["auto", "reference", "triton"]
CHOICES: tuple[Choice, ...] = get_args(Choice)
VARIABLE = "FCOS_KERNELS"
ON = ("1", "true", "yes", "on", "y")
"""What Triton takes for a switch that is on."""

_choice: Choice = "auto"


def choose(choice: str) -> None:
    """Set the implementation for this process.

    Raises:
        ValueError: not one of auto, reference, triton.
    """
    global _choice
    _choice = _checked(choice)


def chosen() -> Choice:
    """What `choose` said; for auto what FCOS_KERNELS says. Raises ValueError for a variable that is no choice."""
    return _checked(os.environ.get(VARIABLE) or "auto") if _choice == "auto" else _choice


def _checked(choice: str) -> Choice:
    for known in CHOICES:
        if choice == known:
            return known
    raise ValueError(f"kernels must be one of {', '.join(CHOICES)}, not {choice!r}")


@contextmanager
def using(choice: str) -> Iterator[None]:
    """`choose` for the length of a block."""
    before = _choice
    choose(choice)
    try:
        yield
    finally:
        choose(before)


def use_triton(device: torch.device) -> bool:
    """Whether an op on tensors of `device` runs its Triton kernels. Raises RuntimeError where it could not."""
    choice = chosen()
    if choice == "auto":
        return device.type == "cuda" and has_triton()
    if choice == "triton" and device.type == "cpu" and os.environ.get("TRITON_INTERPRET", "").lower() not in ON:
        raise RuntimeError("Triton has no CPU backend: set TRITON_INTERPRET=1 before triton is imported, or use auto")
    if choice == "triton" and not has_triton():
        raise RuntimeError("the package triton is missing: pip install triton, or use auto")
    return choice == "triton"


def reason(device: torch.device) -> str:
    """What runs on `device`, and why, for a log."""
    choice = chosen()
    if choice == "reference":
        return "plain PyTorch ops, as asked for"
    if choice == "triton":
        return "Triton kernels, as asked for"
    if device.type != "cuda":
        return f"plain PyTorch ops, written for speed: Triton has no {device.type} backend"
    if not has_triton():
        return "plain PyTorch ops, slow on a GPU: the package triton is missing (pip install triton)"
    return "Triton kernels"


@cache
def has_triton() -> bool:
    """Whether the package can be found."""
    return importlib.util.find_spec("triton") is not None
