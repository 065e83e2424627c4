"""From the head's outputs to detections: decode, non-maximum suppression, the best of each image (spec section 7)."""

from itertools import accumulate
from typing import NamedTuple

import torch
from torch import Tensor

from fcos_cli.geometry.pyramid import Pyramid
from fcos_cli.model.fcos import FCOS, HeadOutputs
from fcos_cli.recipe.schema import TestConfig
from fcos_kernels.decode import decode
from fcos_kernels.nms import nms


class Detections(NamedTuple):
    """K detections of a batch, by image, then by descending score. All on the model's device.

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
def postprocess(
    outputs: HeadOutputs, sizes: Tensor, model: FCOS, test: TestConfig, *, suppress: bool = True
) -> Detections:
    """Detections of a batch.

    Args:
        outputs: what the model returned, level by level.
        sizes: int64 [N, 2], height and width of each image before padding.
        model: gives the levels, what the box outputs mean, and the trained scales.
        test: thresholds and limits.
        suppress: off, every candidate is returned, by image and in no particular order of scores.
    """
    head, pyramid = model.config.head, model.pyramid
    found = decode(
        outputs.class_logits,
        outputs.box_outputs,
        outputs.quality_logits,
        model.head.scales,
        sizes=sizes,
        strides=pyramid.strides,
        starts=pyramid.starts,
        units=model.units,
        activation=head.box_activation,
        quality=head.quality,
        score_threshold=test.score_threshold,
        threshold_on=test.threshold_on,
        rank_by=test.rank_by,
        score=test.score,
        candidates=test.candidates,
    )
    kept = torch.arange(len(found.scores), device=found.scores.device)
    if suppress:
        kept = nms(
            found.boxes,
            found.scores,
            found.labels,
            test.nms_iou,
            images=found.image,
            max_per_image=test.max_detections,
        )
    level, location = _origins(found.level[kept], found.location[kept], outputs, model.pyramid)
    return Detections(
        image=found.image[kept],
        boxes=found.boxes[kept],
        scores=found.scores[kept],
        labels=found.labels[kept],
        level=level,
        location=location,
    )


def _origins(level: Tensor, row: Tensor, outputs: HeadOutputs, pyramid: Pyramid) -> tuple[Tensor, Tensor]:
    """Level numbers [K] and locations [K, 2] in pixels (spec section 1) of rows in the level-concatenated order.

    Only with the grids of the padded batch does such a row mean anything.
    """
    grids = [logits.shape[2:] for logits in outputs.class_logits]
    begins = list(accumulate((rows * columns for rows, columns in grids), initial=0))[:-1]
    columns_of = [columns for _, columns in grids]
    numbers = [one.index for one in pyramid.levels]
    table = torch.tensor([numbers, begins, columns_of, pyramid.strides, pyramid.starts], device=level.device)
    number, begin, columns, stride, start = table[:, level]
    cell = row - begin
    y = cell.div(columns, rounding_mode="floor")
    return number, torch.stack([start + (cell - y * columns) * stride, start + y * stride], dim=1)
