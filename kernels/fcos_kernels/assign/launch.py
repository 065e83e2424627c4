"""Launches the Triton kernels of `assign`. They lie in `triton_assign.py`."""

from functools import lru_cache
from typing import Any

import numpy as np
import torch
import triton
from torch import Tensor

from fcos_kernels.assign.triton_assign import _assign_add_kernel, _assign_fwd_kernel
from fcos_kernels.assign.types import Rule
from fcos_kernels.common.variants import Variant

TILE_H, TILE_W, CHUNK = 16, 16, 32
WARPS = 1
"""A tile's cells fit one warp, and the boxes are then looked at by no more than one."""
ADD_BLOCK, ADD_WARPS = 1024, 4


def launch(
    boxes: Tensor, offsets: Tensor, ignore: Tensor | None, rule: Rule
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """Index, number of positives, sum of their centre-ness targets, candidates: as `assign`, whose checks they passed.

    Nothing waits for the GPU. Offsets are kept within the boxes, whatever they are.

    Raises:
        ValueError: more cells or boxes than a kernel can count.
    """
    levels = _numbers(tuple(rule.grids), tuple(rule.strides), tuple(rule.starts), tuple(rule.ranges), rule.radius)
    images, locations = len(offsets) - 1, sum(rows * columns for rows, columns in rule.grids)
    if len(boxes) >= 2**31 or locations >= 2**31:
        raise ValueError(f"boxes and grids must have fewer than 2^31 rows and cells, not {len(boxes)} and {locations}")
    tiles = sum(triton.cdiv(rows, TILE_H) * triton.cdiv(columns, TILE_W) for rows, columns in rule.grids)
    index = torch.empty((images, locations), dtype=torch.int32, device=boxes.device)
    candidates = torch.empty_like(index) if rule.count_candidates else None
    parts = torch.empty((images * tiles, 2), dtype=torch.float32, device=boxes.device)
    positives, total = (torch.empty((), dtype=torch.float32, device=boxes.device) for _ in range(2))
    with torch.cuda.device_of(boxes):
        if len(parts):
            _assign_fwd_kernel[(len(parts),)](
                boxes.contiguous(),
                offsets.contiguous(),
                None if ignore is None else ignore.contiguous().view(torch.uint8),
                index,
                candidates,
                parts,
                levels,
                len(boxes),
                tiles,
                locations,
                LEVELS=len(rule.grids),
                SAMPLED=rule.radius > 0,
                INCLUSIVE=rule.inclusive,
                COUNTED=rule.count_candidates,
                TILE_H=TILE_H,
                TILE_W=TILE_W,
                CHUNK=CHUNK,
                num_warps=WARPS,
            )
        _assign_add_kernel[(1,)](parts, positives, total, len(parts), BLOCK=ADD_BLOCK, num_warps=ADD_WARPS)
    return index, positives, total, candidates


@lru_cache
def _numbers(
    grids: tuple[tuple[int, int], ...],
    strides: tuple[int, ...],
    starts: tuple[int, ...],
    ranges: tuple[tuple[float, float], ...],
    radius: float,
) -> tuple[tuple[float, ...], ...]:
    """Rows, columns, strides, starts, lower and upper ends, halves of centre squares, for the kernel.

    As floats, since Triton compiles a kernel anew for whole numbers that are 1 or multiples of 16, in a tuple always.
    """
    numbers = []
    for (rows, columns), stride, start, (lower, upper) in zip(grids, strides, starts, ranges, strict=True):
        numbers.append((rows, columns, stride, start, lower, upper, radius * stride))
    with np.errstate(over="ignore"):
        fields = np.array(numbers, np.float64).astype(np.float32).T.tolist()
    return tuple(tuple(field) for field in fields)


def variants() -> list[Variant]:
    """What is launched: without extras, and with all of them, on five levels."""
    levels = 5
    variants = []
    for name, extras in (("", False), ("(centre sampling, ignore, candidates)", True)):
        constants: dict[str, Any] = {} if extras else {"p_ignore": None, "p_candidates": None}
        constants |= {"LEVELS": levels, "SAMPLED": extras, "INCLUSIVE": True, "COUNTED": extras}
        constants |= {"TILE_H": TILE_H, "TILE_W": TILE_W, "CHUNK": CHUNK}
        signature = {
            "p_boxes": "*fp32",
            "p_offsets": "*i64",
            "p_ignore": "*u8",
            "p_index": "*i32",
            "p_candidates": "*i32",
            "p_parts": "*fp32",
            "levels": (("fp32",) * levels,) * 7,
            "boxes": "i32",
            "tiles": "i32",
            "locations": "i32",
        }
        signature |= dict.fromkeys(constants, "constexpr")
        aligned = tuple(argument for argument, kind in signature.items() if kind[0] == "*")
        kind = Variant(_assign_fwd_kernel, name, "float32", signature, constants, aligned, WARPS, ("p_boxes",))
        variants.append(kind._replace(few_warps="a box it reads is held against 256 cells: little waits for memory"))
    pointers = ("p_parts", "p_positives", "p_total")
    signature = {**dict.fromkeys(pointers, "*fp32"), "parts": "i32", "BLOCK": "constexpr"}
    variants.append(Variant(_assign_add_kernel, "", "float32", signature, {"BLOCK": ADD_BLOCK}, pointers, ADD_WARPS))
    return variants
