"""Assignment of locations to ground-truth boxes, for a ragged batch, all levels at once.

The rule stands in `paint.py` (FCOS, arXiv 1904.01355, section 3.1; docs/method.md, Assignment): strictly inside the
box (and the centre square), max(l, t, r, b) within the level's range, the smallest area wins, ties go to the lower row.
In the same call: the number of positives and the sum of their centre-ness targets
sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)), which normalise the losses.

On a GPU one Triton launch finds all of it (`triton_assign.py`), on the CPU boxes are painted (`paint.py`), elsewhere
they are compared in chunks (`plain.py`). Bytes that must move: the index, once.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from fcos_kernels.assign.paint import paint
from fcos_kernels.assign.plain import assign_in_chunks, normalizers
from fcos_kernels.assign.types import Rule
from fcos_kernels.common import dispatch
from fcos_kernels.common.checks import (
    check_ascending,
    check_number,
    check_offsets,
    check_pyramid,
    check_same_device,
    check_tensor,
)


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
    """Assign the locations of a batch to its boxes. Not differentiable; with Triton nothing waits for a GPU.

    Args:
        boxes: float32 [T, 4] xyxy in input pixels, image after image.
        offsets: int64 [N + 1], ascending from 0 to T; image n owns the rows offsets[n] .. offsets[n + 1]. On the CPU or
            where the boxes are; on a GPU the values are not looked at before, rows outside of the boxes are left out.
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
    check_offsets(offsets)
    if offsets.device.type != "cpu":
        check_same_device(boxes, offsets=offsets)
    elif boxes.device.type != "cpu" and type(offsets) is Tensor and not torch.compiler.is_compiling():
        check_ascending("offsets", offsets, len(boxes))  # on their way to the GPU; a compiler's stand-in has no values
    if ignore is not None:
        check_tensor("ignore", ignore, torch.bool, [boxes.shape[0]])
    check_same_device(boxes, ignore=ignore)
    check_pyramid(grids, strides, starts, ranges)
    check_number("radius", radius, least=0)

    index, positives, total, candidates = _assign(
        boxes.detach(),
        offsets.to(boxes.device, non_blocking=offsets.device.type == "cpu"),
        ignore,
        [rows for rows, _ in grids],
        [columns for _, columns in grids],
        list(strides),
        list(starts),
        [float(lower) for lower, _ in ranges],
        [float(upper) for _, upper in ranges],
        float(radius),
        inclusive,
        count_candidates,
    )
    return Assignment(index, positives, total, candidates if count_candidates else None)


@torch.library.custom_op("fcos_kernels::assign", mutates_args=())
def _assign(
    boxes: Tensor,
    offsets: Tensor,
    ignore: Tensor | None,
    rows: Sequence[int],
    columns: Sequence[int],
    strides: Sequence[int],
    starts: Sequence[int],
    lower: Sequence[float],
    upper: Sequence[float],
    radius: float,
    inclusive: bool,
    count_candidates: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The fields of an `Assignment`; candidates are [0] where they are not asked for."""
    grids, ranges = list(zip(rows, columns, strict=True)), list(zip(lower, upper, strict=True))
    rule = Rule(grids, strides, starts, ranges, radius, inclusive, count_candidates)
    if boxes.device.type == "cpu":
        check_ascending("offsets", offsets, len(boxes))
    candidates: Tensor | None
    if dispatch.use_triton(boxes.device):
        from fcos_kernels.assign.launch import launch

        index, positives, total, candidates = launch(boxes, offsets, ignore, rule)
    else:
        if boxes.device.type == "cpu":
            crowd = None if ignore is None else ignore.numpy()
            painted, counted = paint(boxes.numpy(), offsets.numpy(), ignore=crowd, **rule._asdict())
            index, candidates = torch.from_numpy(painted), None if counted is None else torch.from_numpy(counted)
        else:
            index, candidates = assign_in_chunks(boxes, offsets, ignore, rule)
        positives, total = normalizers(index, boxes, grids, strides, starts)
    return index, positives, total, index.new_empty(0) if candidates is None else candidates


@_assign.register_fake
def _fake(
    boxes: Tensor, offsets: Tensor, ignore: Tensor | None, rows: Sequence[int], columns: Sequence[int], *others: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    *_, count_candidates = others
    locations = sum(r * c for r, c in zip(rows, columns, strict=True))
    index = boxes.new_empty((offsets.shape[0] - 1, locations), dtype=torch.int32)
    candidates = torch.empty_like(index) if count_candidates else index.new_empty(0)
    return index, boxes.new_empty(()), boxes.new_empty(()), candidates
