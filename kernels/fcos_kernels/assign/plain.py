"""The assignment in plain PyTorch, for any device: every location against a fixed number of boxes at a time.

The device path where Triton is not used; it waits for the device at every image. Rule: `op.py`, `paint.py`.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fcos_kernels.assign.types import Rule
from fcos_kernels.common.locations import centerness, distances, positives_by_level, split_locations

BOXES_PER_CHUNK = 32


def normalizers(
    index: Tensor,
    boxes: Tensor,
    grids: Sequence[tuple[int, int]],
    strides: Sequence[int],
    starts: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Number of positives and sum of their centre-ness targets, float32 scalars on the boxes' device."""
    targets = []
    positives = positives_by_level(index, grids)
    for (_, location, row), (_, columns), stride, start in zip(positives, grids, strides, starts, strict=True):
        targets.append(centerness(distances(boxes[row], *split_locations(location, max(columns, 1), stride, start))))
    flat = torch.cat(targets) if targets else boxes.new_zeros(0)
    return torch.tensor(float(len(flat)), device=boxes.device), flat.sum(dtype=torch.float64).float()


def assign_in_chunks(boxes: Tensor, offsets: Tensor, ignore: Tensor | None, rule: Rule) -> tuple[Tensor, Tensor | None]:
    """Index and candidates of `assign` on any device: every location against BOXES_PER_CHUNK boxes at a time.

    Offsets are kept within the boxes, whatever they are.
    """
    field = _Field.build(rule, boxes.device)
    bounds = offsets.clamp(0, len(boxes)).tolist()
    images, locations = len(bounds) - 1, len(field.x)
    index = torch.full((images, locations), -1, dtype=torch.int32, device=boxes.device)
    candidates = torch.zeros_like(index) if rule.count_candidates else None
    real = boxes.isfinite().all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    crowd = torch.zeros_like(real) if ignore is None else ignore
    for image in range(images):
        best = torch.full((locations,), torch.inf, device=boxes.device)
        seen = torch.zeros(locations, dtype=torch.bool, device=boxes.device)
        ignored = torch.zeros_like(seen)
        for begin in range(bounds[image], bounds[image + 1], BOXES_PER_CHUNK):
            rows = slice(begin, min(begin + BOXES_PER_CHUNK, bounds[image + 1]))
            inside, may = field.match(boxes[rows], real[rows], rule.inclusive)
            ignored |= (inside & crowd[rows]).any(1)
            seen |= (inside & ~crowd[rows]).any(1)
            may &= ~crowd[rows]
            sides = boxes[rows, 2:] - boxes[rows, :2]
            area = torch.where(may, sides[:, 0] * sides[:, 1], torch.inf)
            smallest = area.amin(1)
            # the lowest row among the smallest: argmin leaves ties undefined
            row = torch.where(may & (area == smallest[:, None]), 0, 1).argsort(dim=1, stable=True)[:, 0] + begin
            better = may.any(1) & ((smallest < best) | (index[image] < 0))
            index[image] = torch.where(better, row.int(), index[image])
            best = torch.where(better, smallest, best)
            if candidates is not None:
                candidates[image] += may.sum(1, dtype=torch.int32)
        index[image].masked_fill_((index[image] == -1) & ignored & ~seen, -2)
    return index, candidates


class _Field(NamedTuple):
    """Every location [L] of a pyramid: coordinates, its level's range, and half the side of its centre square."""

    x: Tensor
    y: Tensor
    lower: Tensor
    upper: Tensor
    half: Tensor | None

    @staticmethod
    def build(rule: Rule, device: torch.device) -> "_Field":
        parts = []
        for (rows, columns), stride, start, (lower, upper) in zip(
            rule.grids, rule.strides, rule.starts, rule.ranges, strict=True
        ):
            cells = rows * columns
            x, y = split_locations(torch.arange(cells, device=device), max(columns, 1), stride, start)
            constants = torch.tensor([lower, upper, rule.radius * stride], device=device)
            parts.append(torch.cat([torch.stack([x, y]), constants[:, None].expand(3, cells)]))
        x, y, low, high, half = torch.cat(parts, dim=1).unbind()
        return _Field(x, y, low, high, half if rule.radius > 0 else None)

    def match(self, boxes: Tensor, real: Tensor, inclusive: bool) -> tuple[Tensor, Tensor]:
        """[L, B]: strictly inside the box; left after rules 1-3."""
        x, y = self.x[:, None], self.y[:, None]
        x0, y0, x1, y1 = boxes.unbind(1)
        sides = torch.stack([x - x0, y - y0, x1 - x, y1 - y])
        inside = (sides.amin(0) > 0) & real
        furthest, lower, upper = sides.amax(0), self.lower[:, None], self.upper[:, None]
        if inclusive:
            may = inside & (furthest >= lower) & (furthest <= upper)
        else:
            may = inside & (furthest > lower) & (furthest < upper)
        if self.half is not None:
            half = self.half[:, None]
            cx, cy = (x0 + x1) * 0.5, (y0 + y1) * 0.5
            may &= (x > torch.maximum(cx - half, x0)) & (x < torch.minimum(cx + half, x1))
            may &= (y > torch.maximum(cy - half, y0)) & (y < torch.minimum(cy + half, y1))
        return inside, may
