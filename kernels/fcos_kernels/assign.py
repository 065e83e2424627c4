"""Assignment of locations to ground-truth boxes, for a ragged batch, all levels at once.

The rule stands in `paint.py` (FCOS, arXiv 1904.01355, section 3.1; fcos-spec section 2): strictly inside the box (and
the centre square), max(l, t, r, b) within the level's range, the smallest area wins, ties go to the lower row. In the
same call: the number of positives and the sum of their centre-ness targets
sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), which normalise the losses.

On the CPU the boxes are painted. On other devices they are compared in chunks of a fixed number of boxes.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fcos_kernels.checks import check_offsets, check_pyramid, check_same_device, check_tensor
from fcos_kernels.locations import centerness, distances, positives_by_level, split_locations
from fcos_kernels.paint import paint

BOXES_PER_CHUNK = 32


class Assignment(NamedTuple):
    """What every location of a batch learns.

    index: int32 [N, L], row of `boxes` (over the whole batch), -1 background, -2 ignored; levels in order, row-major.
    positives: float32 scalar, number of index >= 0.
    centerness_sum: float32 scalar, sum of the centre-ness targets of the positives.
    candidates: int32 [N, L], boxes left after the level rule (ambiguous where above 1), or None.
    """

    index: Tensor  # type: ignore[assignment]
    positives: Tensor
    centerness_sum: Tensor
    candidates: Tensor | None


@torch.no_grad()
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
    count_candidates: bool = False,
) -> Assignment:
    """Assign the locations of a batch to its boxes.

    Args:
        boxes: float32 [T, 4] xyxy in input pixels, image after image.
        offsets: int64 [N + 1]; image n owns the rows offsets[n] .. offsets[n + 1].
        grids, strides, starts, ranges: per level: (rows, columns); pixels between locations; coordinate of the first
            location; (lower, upper) of max(l, t, r, b) in pixels, inf allowed.
        radius: half side of the centre square in strides; 0 is off.
        inclusive: whether a range includes its ends.
        ignore: bool [T], boxes (crowds) that never become positive.
        count_candidates: also return the number of boxes left per location.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape or device, named.
    """
    check_tensor("boxes", boxes, torch.float32, [None, 4])
    check_offsets(offsets, len(boxes))
    if ignore is not None:
        check_tensor("ignore", ignore, torch.bool, [len(boxes)])
    check_same_device(boxes, ignore=ignore)
    check_pyramid(grids, strides, starts, ranges)
    if not radius >= 0:
        raise ValueError(f"radius must be 0 (off) or above, not {radius}")

    candidates: Tensor | None
    if boxes.device.type == "cpu":
        painted, counted = paint(
            boxes.detach().numpy(),
            offsets.cpu().numpy(),
            grids=grids,
            strides=strides,
            starts=starts,
            ranges=ranges,
            radius=radius,
            inclusive=inclusive,
            ignore=None if ignore is None else ignore.numpy(),
            count_candidates=count_candidates,
        )
        index = torch.from_numpy(painted)
        candidates = None if counted is None else torch.from_numpy(counted)
    else:
        index, candidates = assign_in_chunks(
            boxes,
            offsets,
            grids=grids,
            strides=strides,
            starts=starts,
            ranges=ranges,
            radius=radius,
            inclusive=inclusive,
            ignore=ignore,
            count_candidates=count_candidates,
        )
    positives, total = _normalizers(index, boxes, grids, strides, starts)
    return Assignment(index, positives, total, candidates)


def _normalizers(
    index: Tensor,
    boxes: Tensor,
    grids: Sequence[tuple[int, int]],
    strides: Sequence[int],
    starts: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Number of positives and sum of their centre-ness targets, float32 scalars on the boxes' device."""
    targets = []
    found = positives_by_level(index, grids)
    for (_, location, row), (_, columns), stride, start in zip(found, grids, strides, starts, strict=True):
        targets.append(centerness(distances(boxes[row], *split_locations(location, max(columns, 1), stride, start))))
    flat = torch.cat(targets) if targets else boxes.new_zeros(0)
    return torch.tensor(float(len(flat)), device=boxes.device), flat.sum(dtype=torch.float64).float()


def assign_in_chunks(
    boxes: Tensor,
    offsets: Tensor,
    *,
    grids: Sequence[tuple[int, int]],
    strides: Sequence[int],
    starts: Sequence[int],
    ranges: Sequence[tuple[float, float]],
    radius: float,
    inclusive: bool,
    ignore: Tensor | None,
    count_candidates: bool,
) -> tuple[Tensor, Tensor | None]:
    """Index and candidates of `assign` on any device: every location against BOXES_PER_CHUNK boxes at a time."""
    field = _Field.build(grids, strides, starts, ranges, radius, boxes.device)
    bounds = offsets.tolist()
    images, locations = len(bounds) - 1, len(field.x)
    index = torch.full((images, locations), -1, dtype=torch.int32, device=boxes.device)
    candidates = torch.zeros_like(index) if count_candidates else None
    real = boxes.isfinite().all(1) & (boxes[:, 2:] > boxes[:, :2]).all(1)
    crowd = torch.zeros_like(real) if ignore is None else ignore
    for image in range(images):
        best = torch.full((locations,), torch.inf, device=boxes.device)
        seen = torch.zeros(locations, dtype=torch.bool, device=boxes.device)
        ignored = torch.zeros_like(seen)
        for begin in range(bounds[image], bounds[image + 1], BOXES_PER_CHUNK):
            rows = slice(begin, min(begin + BOXES_PER_CHUNK, bounds[image + 1]))
            inside, may = field.match(boxes[rows], real[rows], inclusive)
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
    def build(
        grids: Sequence[tuple[int, int]],
        strides: Sequence[int],
        starts: Sequence[int],
        ranges: Sequence[tuple[float, float]],
        radius: float,
        device: torch.device,
    ) -> "_Field":
        parts = []
        for (rows, columns), stride, start, (lower, upper) in zip(grids, strides, starts, ranges, strict=True):
            cells = rows * columns
            x, y = split_locations(torch.arange(cells, device=device), max(columns, 1), stride, start)
            constants = torch.tensor([lower, upper, radius], device=device)
            constants[2] *= stride
            parts.append(torch.cat([torch.stack([x, y]), constants[:, None].expand(3, cells)]))
        x, y, low, high, half = torch.cat(parts, dim=1).unbind()
        return _Field(x, y, low, high, half if radius > 0 else None)

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
