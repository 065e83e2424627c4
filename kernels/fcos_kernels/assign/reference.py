"""The assignment once more, straight from its definition: dense, small inputs only. Tests hold the others to it."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fcos_kernels.common.reference import locations


def assign(
    boxes: Tensor,
    offsets: Tensor,
    *,
    grids: Sequence[tuple[int, int]],
    strides: Sequence[int],
    starts: Sequence[int],
    ranges: Sequence[tuple[float, float]],
    radius: float = 0.0,
    inclusive: bool = True,
    ignore: Tensor | None = None,
    dtype: torch.dtype = torch.float32,
) -> tuple[Tensor, Tensor]:
    """Index and candidates int64 [N, L] as `assign` returns them, through [L, G] tensors in `dtype`."""
    where = locations(grids, strides, starts)
    x, y, level = where[:, 0, None].to(dtype), where[:, 1, None].to(dtype), where[:, 2].long()
    limits = torch.tensor([list(pair) for pair in ranges], dtype=dtype)
    half = torch.tensor([radius * stride for stride in strides], dtype=dtype)
    index = torch.full((len(offsets) - 1, len(where)), -1, dtype=torch.int64)
    candidates = torch.zeros_like(index)
    for image in range(len(offsets) - 1):
        begin, end = int(offsets[image]), int(offsets[image + 1])
        if begin == end or not len(where):
            continue
        own = boxes[begin:end].to(dtype)
        crowd = torch.zeros(end - begin, dtype=torch.bool) if ignore is None else ignore[begin:end]
        x0, y0, x1, y1 = own.unbind(1)
        sides = torch.stack([x - x0, y - y0, x1 - x, y1 - y])
        real = own.isfinite().all(1) & (x1 > x0) & (y1 > y0)
        inside = (sides.amin(0) > 0) & real
        lower, upper = limits[level].unbind(1)
        furthest = sides.amax(0)
        if inclusive:
            matched = inside & (furthest >= lower[:, None]) & (furthest <= upper[:, None])
        else:
            matched = inside & (furthest > lower[:, None]) & (furthest < upper[:, None])
        if radius > 0:
            reach = half[level][:, None]
            cx, cy = (x0 + x1) / 2, (y0 + y1) / 2
            sub = [
                x - torch.maximum(cx - reach, x0),
                y - torch.maximum(cy - reach, y0),
                torch.minimum(cx + reach, x1) - x,
                torch.minimum(cy + reach, y1) - y,
            ]
            matched &= torch.stack(sub).amin(0) > 0
        matched &= ~crowd
        for location in range(len(where)):
            rows = matched[location].nonzero()[:, 0].tolist()
            areas = ((x1 - x0) * (y1 - y0)).tolist()
            candidates[image, location] = len(rows)
            if rows:
                index[image, location] = begin + min(rows, key=lambda row: (areas[row], row))
            elif (inside[location] & crowd).any() and not (inside[location] & ~crowd).any():
                index[image, location] = -2
    return index, candidates
