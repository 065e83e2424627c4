"""From the head's outputs to detections: decode, suppress, keep the best of each image (docs/method.md, Inference).

Where the Triton kernels run, all of it happens in shapes that do not depend on values, so that nothing waits for the
GPU; the detections then come to the host in one transfer.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from fcos_cli.geometry.pyramid import Pyramid
from fcos_cli.method.interface import Outputs, Selection
from fcos_cli.model import cutting
from fcos_cli.model.fcos import FCOS
from fcos_cli.recipe.schema import TestConfig
from fcos_kernels import dispatch
from fcos_kernels.decode import Candidates, PaddedCandidates
from fcos_kernels.nms import batched_nms, batched_nms_packed, nms

_LABEL, _LEVEL, _ROW = 5, 6, 7
"""Columns of packed detections; before them the box and the score."""


class Detections(NamedTuple):
    """K detections of a batch, by image, then by descending score. All on the CPU.

    Attributes:
        image: int64 [K], position in the batch.
        boxes: float32 [K, 4], xyxy in pixels of the network input, clipped to the image.
        scores: float32 [K].
        labels: int64 [K], contiguous.
        level: int64 [K], number of the pyramid level, 3 for P3.
        location: int64 [K, 2], x and y of the location in pixels of the network input.
    """

    image: Tensor
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    level: Tensor
    location: Tensor


@torch.no_grad()
def postprocess(outputs: Outputs, sizes: Tensor, model: FCOS, test: TestConfig, *, suppress: bool = True) -> Detections:
    """Detections of a batch.

    Args:
        outputs: what the model returned, level by level.
        sizes: int64 [N, 2], height and width of each image before padding, on the CPU or beside the outputs.
        model: gives the levels, and the head that decodes its outputs.
        test: thresholds and limits.
        suppress: off, every candidate is returned, by image and in no particular order of scores; where the recipe cuts
            after suppression, its boxes are whole.
    """
    if dispatch.use_triton(model.device):
        packed = postprocess_packed(outputs, sizes, model, test, suppress=suppress)
        return unpack(packed.cpu(), outputs, model.pyramid, test)
    candidates = model.head.decode(outputs, sizes, selection(test))
    largest = cutting.limits(sizes.to(candidates.boxes.device), test)
    candidates = _ready(candidates, outputs, model, largest, test)
    kept = torch.arange(len(candidates.scores), device=candidates.scores.device)
    if suppress:
        kept = nms(
            cutting.for_suppression(candidates.boxes, test),
            candidates.scores,
            candidates.labels,
            test.nms_iou,
            images=candidates.image,
            max_per_image=test.max_detections,
        )
    candidates = Candidates(*(column[kept] for column in candidates))
    if suppress and cutting.is_late(test):
        candidates = _with_area(candidates, cutting.cut(candidates.boxes, largest[candidates.image]), test)
    image, boxes, scores, labels, level, row = (column.cpu() for column in candidates)
    number, location = _origins(level, row, outputs, model.pyramid, test)
    return Detections(image, boxes, scores, labels, number, location)


def _ready(candidates: Candidates, outputs: Outputs, model: FCOS, largest: Tensor, test: TestConfig) -> Candidates:
    """Candidates with the boxes that suppression sees."""
    boxes = _boxes(candidates, outputs, model, candidates.image, test)
    if cutting.is_late(test):
        return candidates._replace(boxes=boxes)
    return _with_area(candidates, cutting.cut(boxes, largest[candidates.image]), test)


def _boxes(
    candidates: Candidates | PaddedCandidates, outputs: Outputs, model: FCOS, image: Tensor, test: TestConfig
) -> Tensor:
    """Boxes of candidates, whole where the recipe wants them so; the decoding's have been cut to exact pixels."""
    if not cutting.is_late(test) and test.strides == "level":
        return candidates.boxes
    level, row = candidates.level.long(), candidates.location.long()
    _, location = _origins(level, row, outputs, model.pyramid, test)
    return model.head.whole_boxes(outputs, image, level, row, location)


def _with_area(candidates: Candidates, boxes: Tensor, test: TestConfig) -> Candidates:
    """The candidates with these boxes, but for those without an area."""
    kept = ~cutting.without_area(boxes, test)
    return Candidates(*(column[kept] for column in candidates._replace(boxes=boxes)))


@torch.no_grad()
def postprocess_packed(
    outputs: Outputs, sizes: Tensor, model: FCOS, test: TestConfig, *, suppress: bool = True
) -> Tensor:
    """The same on the model's device, in one tensor of a shape known before; with Triton nothing waits for the GPU.

    Returns:
        int32 [N, M, 8], M = `test.max_detections` (all candidates without `suppress`): bits of the float32 box and
        score, label, position of the level, row among the image's locations; -1 throughout in rows left over.
    """
    candidates = model.head.decode_padded(outputs, sizes, selection(test))
    boxes, scores = candidates.boxes, candidates.scores
    largest = cutting.limits(sizes.to(boxes.device, non_blocking=True), test)[:, None]
    boxes = _boxes(candidates, outputs, model, torch.arange(len(boxes), device=boxes.device)[:, None], test)
    if not cutting.is_late(test):
        boxes = cutting.cut(boxes, largest)
        scores = scores.masked_fill(cutting.without_area(boxes, test), -1)
    seen = cutting.for_suppression(boxes, test)
    if suppress and seen is boxes and not cutting.is_late(test):
        more = [candidates.level, candidates.location]
        return batched_nms_packed(boxes, scores, candidates.labels, more, test.nms_iou, test.max_detections)
    numbers = torch.stack([scores.view(torch.int32), candidates.labels, candidates.level, candidates.location], dim=2)
    packed = torch.cat([boxes.view(torch.int32), numbers], dim=2)
    if not suppress:
        return packed.masked_fill_(scores[:, :, None] == -1, -1)
    rows = batched_nms(seen, scores, candidates.labels, test.nms_iou, test.max_detections)
    columns = rows.clamp(min=0)[:, :, None].expand(-1, -1, packed.shape[2])
    packed = packed.gather(1, columns)
    gone = rows < 0
    if cutting.is_late(test):
        boxes = cutting.cut(packed[:, :, :4].contiguous().view(torch.float32), largest)
        packed[:, :, :4] = boxes.view(torch.int32)
        gone = gone | cutting.without_area(boxes, test)
    return packed.masked_fill_(gone[:, :, None], -1)


def unpack(packed: Tensor, outputs: Outputs, pyramid: Pyramid, test: TestConfig) -> Detections:
    """Detections from what `postprocess_packed` made of these outputs, once it is on the CPU."""
    image, place = (packed[:, :, _LABEL] >= 0).nonzero(as_tuple=True)
    rows = packed[image, place]
    floats = rows[:, :_LABEL].contiguous().view(torch.float32)
    number, location = _origins(rows[:, _LEVEL].long(), rows[:, _ROW].long(), outputs, pyramid, test)
    return Detections(image, floats[:, :4].clone(), floats[:, 4].clone(), rows[:, _LABEL].long(), number, location)


def selection(test: TestConfig) -> Selection:
    """Which candidates the head is to keep."""
    return Selection(
        threshold=test.score_threshold,
        threshold_on=test.threshold_on,
        rank_by=test.rank_by,
        score=test.score,
        candidates=test.candidates,
    )


def _origins(level: Tensor, row: Tensor, outputs: Outputs, pyramid: Pyramid, test: TestConfig) -> tuple[Tensor, Tensor]:
    """Level numbers [...] and locations [..., 2] in pixels of rows in the level-concatenated order.

    Where locations lie: docs/method.md, Locations.
    Only with the grids of the padded batch does such a row mean anything.
    """
    grids = [logits.shape[2:] for logits in outputs["classification"]]
    begins = list(accumulate((rows * columns for rows, columns in grids), initial=0))[:-1]
    columns_of = [columns for _, columns in grids]
    numbers = [one.index for one in pyramid.levels]
    down, across = _strides(grids, pyramid, test)
    table = torch.tensor([numbers, begins, columns_of, down, across, pyramid.starts], device=level.device)
    number, begin, columns, down_by, across_by, start = table[:, level]
    cell = row - begin
    y = cell.div(columns, rounding_mode="floor")
    return number, torch.stack([start + (cell - y * columns) * across_by, start + y * down_by], dim=-1)


def _strides(grids: Sequence[Sequence[int]], pyramid: Pyramid, test: TestConfig) -> tuple[Sequence[int], Sequence[int]]:
    """How far locations of each level lie apart, in y and in x: torchvision divides the padded image by the grid."""
    if test.strides == "level":
        return pyramid.strides, pyramid.strides
    height, width = (pyramid.strides[0] * side for side in grids[0])
    return [height // rows for rows, _ in grids], [width // columns for _, columns in grids]
