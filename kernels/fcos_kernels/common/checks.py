"""What the ops ask of their arguments. Errors name the argument, what was given, and what is allowed."""

import math
from collections.abc import Sequence
from itertools import pairwise
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from fcos_kernels.common.levels import EXACT

LOGIT_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def check_tensor(
    name: str, value: Any, dtypes: torch.dtype | tuple[torch.dtype, ...], shape: Sequence[int | None]
) -> None:
    """Raise TypeError or ValueError unless `value` is a tensor of one of `dtypes` and of `shape` (None: any size)."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{name} must be a tensor, not {type(value).__name__}")
    allowed = dtypes if isinstance(dtypes, tuple) else (dtypes,)
    if value.dtype not in allowed:
        names = " or ".join(str(d).removeprefix("torch.") for d in allowed)
        raise TypeError(f"{name} must be {names}, not {str(value.dtype).removeprefix('torch.')}")
    if value.dim() != len(shape) or any(w is not None and w != g for w, g in zip(shape, value.shape, strict=True)):
        wanted = ", ".join("any" if size is None else str(size) for size in shape)
        raise ValueError(f"{name} must have shape [{wanted}], not {list(value.shape)}")


def check_same_device(reference: Tensor, **tensors: Tensor | None) -> None:
    """Raise ValueError unless all tensors lie where `reference` lies."""
    for name, value in tensors.items():
        if value is not None and value.device != reference.device:
            raise ValueError(f"{name} must be on {reference.device}, not {value.device}")


def check_levels(**per_level: Sequence[Any]) -> None:
    """Raise TypeError or ValueError unless all have one entry per level; the first one counts the levels."""
    for name, value in per_level.items():
        if not hasattr(value, "__len__"):
            raise TypeError(f"{name} must be a list with an entry per level, not {value!r}")
    (first, reference), *others = per_level.items()
    for name, value in others:
        if len(value) != len(reference):
            raise ValueError(f"{name} must have {len(reference)} entries, one per level as {first}, not {len(value)}")


def check_number(name: str, value: Any, least: float = -math.inf) -> None:
    """Raise TypeError or ValueError unless `value` is a finite number, not below `least`."""
    if not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, not {type(value).__name__}")
    if not (float(value) >= least and abs(float(value)) < math.inf):
        limit = "" if least == -math.inf else f"{least:g} or above and "
        raise ValueError(f"{name} must be {limit}finite, not {value}")


def check_positive(name: str, values: Sequence[float]) -> None:
    """Raise TypeError or ValueError unless every value is a finite number above 0."""
    for value in values:
        check_number(name, value)
        if not value > 0:
            raise ValueError(f"{name} must be above 0, not {value}")


def check_whole(name: str, values: Sequence[Any]) -> None:
    """Raise TypeError unless every value is an int (or stands for one, while a graph is compiled)."""
    for value in values:
        if isinstance(value, bool) or not isinstance(value, int | torch.SymInt):
            raise TypeError(f"{name} must be whole numbers (int), not {type(value).__name__} {value}")


def check_choice(name: str, value: str, allowed: Sequence[str]) -> None:
    """Raise ValueError unless `value` is one of `allowed`."""
    if value not in allowed:
        raise ValueError(f"{name} must be one of {', '.join(allowed)}, not {value!r}")


def check_offsets(offsets: Tensor) -> None:
    """Raise unless offsets is int64 [N + 1]."""
    check_tensor("offsets", offsets, torch.int64, [None])
    if offsets.shape[0] < 1:
        raise ValueError("offsets must have one entry more than there are images, not none")


def check_ascending(name: str, offsets: Tensor, rows: int) -> None:
    """Raise ValueError unless offsets on the CPU ascend from 0 to `rows`."""
    values = offsets.tolist()
    if values[0] != 0 or values[-1] != rows or any(a > b for a, b in pairwise(values)):
        raise ValueError(f"{name} must ascend from 0 to the {rows} boxes, not {values}")


def check_rows(name: str, rows: Tensor, count: int) -> None:
    """Raise ValueError unless every entry of `rows`, whole numbers >= 0, is below `count`. Waits for a GPU."""
    if rows.numel() and int(rows.amax()) >= count:
        raise ValueError(f"{name} must be below {count}, not {int(rows.amax())}")


def check_labels(name: str, labels: Tensor, classes: int, least: int = 0) -> None:
    """Raise ValueError unless every label is within least .. classes - 1. Waits for a GPU."""
    if labels.numel():
        low, high = (int(end) for end in labels.aminmax())
        if low < least or high >= classes:
            raise ValueError(f"{name} must be within {least}..{classes - 1}, not {low if low < least else high}")


def check_pyramid(
    grids: Sequence[tuple[int, int]],
    strides: Sequence[int],
    starts: Sequence[int],
    ranges: Sequence[tuple[float, float]],
) -> None:
    """Raise TypeError or ValueError unless the levels' geometry is consistent."""
    check_levels(grids=grids, strides=strides, starts=starts, ranges=ranges)
    for grid in grids:
        if not _is_pair(grid):
            raise TypeError(f"grids must be (rows, columns), not {grid}")
        check_whole("grids", grid)
        if min(grid) < 0:
            raise ValueError(f"grids must be (rows, columns), not {tuple(grid)}")
    check_locations(grids, strides, starts)
    for pair in ranges:
        if not _is_pair(pair) or not all(isinstance(end, Real) for end in pair):
            raise TypeError(f"ranges must be (lower, upper), not {pair}")
        if not pair[0] <= pair[1]:
            raise ValueError(f"ranges must be (lower, upper) with lower <= upper, not ({pair[0]}, {pair[1]})")


def check_locations(grids: Sequence[tuple[int, int]], strides: Sequence[int], starts: Sequence[int]) -> None:
    """Raise TypeError or ValueError unless every location's coordinates are whole numbers that float32 holds."""
    check_whole("strides", strides)
    check_whole("starts", starts)
    check_positive("strides", strides)
    for (rows, columns), stride, start in zip(grids, strides, starts, strict=True):
        if stride >= EXACT or abs(start) + max(rows, columns) * stride >= EXACT:
            raise ValueError(
                f"grids, strides and starts must stay within 2^24 pixels, not {rows} x {columns} of {stride} "
                f"from {start}"
            )


def _is_pair(value: Any) -> bool:
    return isinstance(value, Sequence) and len(value) == 2


def check_outputs(
    class_logits: Sequence[Tensor], box_outputs: Sequence[Tensor], quality_logits: Sequence[Tensor] | None
) -> None:
    """Raise unless a head's outputs are [N, C, H, W], [N, 4, H, W] and [N, 1, H, W] on one device, level by level."""
    if not len(class_logits):
        raise ValueError("class_logits must have at least one level")
    if quality_logits is not None:
        check_levels(class_logits=class_logits, quality_logits=quality_logits)
    for level, logits in enumerate(class_logits):
        check_tensor(f"class_logits[{level}]", logits, LOGIT_DTYPES, [None, None, None, None])
        images, classes, rows, columns = logits.shape
        if (images, classes) != class_logits[0].shape[:2]:
            raise ValueError(
                f"class_logits[{level}] must have {class_logits[0].shape[0]} images of {class_logits[0].shape[1]} "
                f"classes as class_logits[0], not {images} of {classes}"
            )
        check_tensor(f"box_outputs[{level}]", box_outputs[level], LOGIT_DTYPES, [images, 4, rows, columns])
        others = {f"class_logits[{level}]": logits, f"box_outputs[{level}]": box_outputs[level]}
        if quality_logits is not None:
            check_tensor(f"quality_logits[{level}]", quality_logits[level], LOGIT_DTYPES, [images, 1, rows, columns])
            others[f"quality_logits[{level}]"] = quality_logits[level]
        check_same_device(class_logits[0], **others)
