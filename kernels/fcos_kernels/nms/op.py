"""Non-maximum suppression: exact, greedy, class-aware, for all images of a batch.

In order of descending score (ties: the lower index first), a box is kept unless it overlaps a kept box of the same
image and class with IoU > threshold. IoU is intersection / (area + area - intersection) in float32, rounded after every
step, and so is the threshold. Classes are compared, not moved apart by offsets, which round coordinates.

On a GPU Triton kernels do it for all images at once (`triton_order.py`, `triton_nms.py`), elsewhere NumPy on the CPU,
image by image and class by class (`plain.py`). `batched_nms` and `batched_nms_packed` have shapes known before and
nothing waits for the GPU; `nms` returns as many rows as there are, which it must wait for.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from fcos_kernels.common import dispatch
from fcos_kernels.common.checks import check_number, check_same_device, check_tensor, check_whole
from fcos_kernels.nms.plain import greedy

_INTEGERS = (torch.int64, torch.int32)


def nms(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    iou_threshold: float,
    *,
    images: Tensor | None = None,
    max_per_image: int = 0,
) -> Tensor:
    """Indices of the boxes that stay.

    Args:
        boxes: float32 [K, 4] xyxy.
        scores: float32 [K].
        classes: int64 or int32 [K].
        iou_threshold: boxes of one class and image that overlap more are suppressed.
        images: int64 or int32 [K], the image of each box; None: one image.
        max_per_image: keep at most this many of each image; 0: all.

    Returns:
        int64 indices, by image, then descending score, then index.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or size.
    """
    check_tensor("boxes", boxes, torch.float32, [None, 4])
    # not len(boxes), which torch.export takes for a constant
    check_tensor("scores", scores, torch.float32, boxes.shape[:1])
    check_tensor("classes", classes, _INTEGERS, boxes.shape[:1])
    if images is not None:
        check_tensor("images", images, _INTEGERS, boxes.shape[:1])
    check_same_device(boxes, scores=scores, classes=classes, images=images)
    _check_limits(iou_threshold, max_per_image)
    return _nms(boxes.detach(), scores.detach(), classes, images, float(iou_threshold), max_per_image)


def batched_nms(boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float, max_per_image: int) -> Tensor:
    """Rows that stay of each image, in a shape that does not depend on values; nothing waits for a GPU.

    Args:
        boxes: float32 [N, K, 4] xyxy.
        scores: float32 [N, K]; below 0: the row is empty.
        classes: int64 or int32 [N, K].
        iou_threshold: boxes of one class and image that overlap more are suppressed.
        max_per_image: M, keep at most this many of each image; 0: all, M is K.

    Returns:
        int64 [N, M] rows of each image by descending score, ties by the lower row; -1 where there are no more.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or size.
    """
    check_tensor("boxes", boxes, torch.float32, [None, None, 4])
    check_tensor("scores", scores, torch.float32, boxes.shape[:2])
    check_tensor("classes", classes, _INTEGERS, boxes.shape[:2])
    check_same_device(boxes, scores=scores, classes=classes)
    _check_limits(iou_threshold, max_per_image)
    rows = max_per_image or boxes.shape[1]
    return _batched_nms(boxes.detach(), scores.detach(), classes, float(iou_threshold), rows)


def batched_nms_packed(
    boxes: Tensor,
    scores: Tensor,
    classes: Tensor,
    columns: Sequence[Tensor],
    iou_threshold: float,
    max_per_image: int,
) -> Tensor:
    """The rows that `batched_nms` finds, themselves, in one tensor: one transfer brings them to the host.

    Args:
        boxes, scores, iou_threshold, max_per_image: as `batched_nms` has them.
        classes: int32 [N, K].
        columns: int32 [N, K] each, what else is wanted of a row.

    Returns:
        int32 [N, M, 6 + columns]: bits of the float32 box and score, class, columns; -1 throughout in rows left over.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or size.
    """
    check_tensor("boxes", boxes, torch.float32, [None, None, 4])
    check_tensor("scores", scores, torch.float32, boxes.shape[:2])
    check_tensor("classes", classes, torch.int32, boxes.shape[:2])
    for place, column in enumerate(columns):
        check_tensor(f"columns[{place}]", column, torch.int32, boxes.shape[:2])
        check_same_device(boxes, **{f"columns[{place}]": column})
    check_same_device(boxes, scores=scores, classes=classes)
    _check_limits(iou_threshold, max_per_image)
    rows = max_per_image or boxes.shape[1]
    return _packed(boxes.detach(), scores.detach(), classes, list(columns), float(iou_threshold), rows)


def _check_limits(iou_threshold: float, max_per_image: int) -> None:
    check_number("iou_threshold", iou_threshold)
    check_whole("max_per_image", [max_per_image])
    if max_per_image < 0:
        raise ValueError(f"max_per_image must be 0 (all) or above, not {max_per_image}")


@torch.library.custom_op("fcos_kernels::nms", mutates_args=())
def _nms(
    boxes: Tensor, scores: Tensor, classes: Tensor, images: Tensor | None, iou_threshold: float, max_per_image: int
) -> Tensor:
    """int64 [number kept]; see `nms`."""
    order = _rank(scores).argsort(descending=True, stable=True)
    counts = torch.tensor([len(order)])
    if images is not None:
        order = order[images[order].argsort(stable=True)]
        counts = torch.unique_consecutive(images[order], return_counts=True)[1].cpu()
    begins = counts.cumsum(0) - counts
    boxes, classes = boxes[order], classes[order]
    if not dispatch.use_triton(boxes.device):
        kept = _kept_of_each(boxes, classes, begins, counts, iou_threshold, max_per_image)
        rows = [begin + own for begin, own in zip(begins, kept, strict=True)]
        return order[torch.cat(rows).to(order.device)] if rows else order
    from fcos_kernels.nms.launch import launch

    longest = int(counts.max()) if len(counts) else 0
    begins, counts = begins.to(boxes.device), counts.to(boxes.device, torch.int32)
    padded = launch(boxes, classes, begins, counts, longest, iou_threshold, max_per_image or longest)
    return order[(begins[:, None] + padded)[padded >= 0]]


@_nms.register_fake
def _(
    boxes: Tensor, scores: Tensor, classes: Tensor, images: Tensor | None, iou_threshold: float, max_per_image: int
) -> Tensor:
    return boxes.new_empty(torch.library.get_ctx().new_dynamic_size(), dtype=torch.int64)


@torch.library.custom_op("fcos_kernels::batched_nms", mutates_args=())
def _batched_nms(boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float, rows: int) -> Tensor:
    """int64 [N, rows]; see `batched_nms`."""
    if dispatch.use_triton(boxes.device):
        from fcos_kernels.nms.launch import Padded, launch_padded

        return launch_padded(Padded(boxes, scores, classes), iou_threshold, rows)
    return _rows_that_stay(boxes, scores, classes, iou_threshold, rows)


def _rows_that_stay(boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float, rows: int) -> Tensor:
    """`batched_nms` by NumPy."""
    images, width = scores.shape
    rank, order = _rank(scores).sort(dim=1, descending=True, stable=True)
    counts = (rank >= 0).sum(1)
    begins = torch.arange(images, device=boxes.device) * width
    boxes = boxes.gather(1, order[:, :, None].expand(-1, -1, 4)).view(-1, 4)
    classes = classes.gather(1, order).view(-1)
    kept = torch.full((images, rows), -1)
    for image, own in enumerate(_kept_of_each(boxes, classes, begins, counts, iou_threshold, rows)):
        kept[image, : len(own)] = own
    kept = kept.to(boxes.device)
    if not width:
        return kept
    return order.gather(1, kept.clamp(min=0)).masked_fill_(kept < 0, -1)


@_batched_nms.register_fake
def _(boxes: Tensor, scores: Tensor, classes: Tensor, iou_threshold: float, rows: int) -> Tensor:
    return boxes.new_empty((boxes.shape[0], rows), dtype=torch.int64)


@torch.library.custom_op("fcos_kernels::batched_nms_packed", mutates_args=())
def _packed(
    boxes: Tensor, scores: Tensor, classes: Tensor, columns: Sequence[Tensor], iou_threshold: float, rows: int
) -> Tensor:
    """int32 [N, rows, 6 + columns]; see `batched_nms_packed`."""
    columns = [classes, *columns]
    if dispatch.use_triton(boxes.device):
        from fcos_kernels.nms.launch import Padded, launch_padded

        return launch_padded(Padded(boxes, scores, classes), iou_threshold, rows, columns)
    found = _rows_that_stay(boxes, scores, classes, iou_threshold, rows)
    if not boxes.shape[1]:
        return classes.new_full((*found.shape, 5 + len(columns)), -1)
    numbers = torch.stack([scores.view(torch.int32), *columns], dim=2)
    table = torch.cat([boxes.view(torch.int32), numbers], dim=2)
    place = found.clamp(min=0)[:, :, None].expand(-1, -1, table.shape[2])
    return table.gather(1, place).masked_fill_(found[:, :, None] < 0, -1)


@_packed.register_fake
def _(
    boxes: Tensor, scores: Tensor, classes: Tensor, columns: Sequence[Tensor], iou_threshold: float, rows: int
) -> Tensor:
    return boxes.new_empty((boxes.shape[0], rows, 6 + len(columns)), dtype=torch.int32)


def _rank(scores: Tensor) -> Tensor:
    """Scores that any way of sorting orders alike: NaN of either sign is infinite, -0 is 0."""
    return torch.where(scores.isnan(), math.inf, scores) + 0.0


def _kept_of_each(
    boxes: Tensor, classes: Tensor, begins: Tensor, counts: Tensor, threshold: float, most: int
) -> list[Tensor]:
    """Positions kept among each image's boxes, which come by descending score; int64 on the CPU. `most` 0: all."""
    rows, labels = boxes.cpu().numpy(), classes.cpu().numpy()
    owned = [slice(begin, begin + count) for begin, count in zip(begins.tolist(), counts.tolist(), strict=True)]
    return [torch.from_numpy(greedy(rows[own], labels[own], threshold, most)) for own in owned]
