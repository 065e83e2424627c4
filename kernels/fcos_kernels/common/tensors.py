"""Dtypes and memory formats of tensors [N, C, H, W]."""

from collections.abc import Sequence

import torch
from torch import Tensor


def compute_dtype(tensor: Tensor) -> torch.dtype:
    """float32, or float64 for float64 tensors."""
    return torch.promote_types(tensor.dtype, torch.float32)


def dense(tensor: Tensor) -> Tensor:
    """The tensor itself where it is contiguous or channels-last, else a contiguous copy."""
    last = tensor.dim() == 4 and tensor.is_contiguous(memory_format=torch.channels_last)
    return tensor if last else tensor.contiguous()


def is_last(tensors: Sequence[Tensor]) -> bool:
    """Whether all are channels-last, and not all contiguous as well."""
    last = all(x.is_contiguous(memory_format=torch.channels_last) for x in tensors)
    return last and not all(x.is_contiguous() for x in tensors)


def memory_format(last: bool) -> torch.memory_format:
    """Channels-last or contiguous."""
    return torch.channels_last if last else torch.contiguous_format


def alike(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The tensors in one memory format: as they are, or contiguous copies where their formats differ."""
    layout = memory_format(is_last(tensors))
    return [x.contiguous(memory_format=layout) for x in tensors]
