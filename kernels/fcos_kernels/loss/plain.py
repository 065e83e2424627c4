"""The detection loss in plain PyTorch, written for the CPU; also what a GPU runs where Triton is not used.

Each level's logits are taken as background; then what the positives of all levels are more is computed at once.
"""

import torch
from torch import Tensor

from fcos_kernels.common.checks import check_labels, check_rows
from fcos_kernels.common.locations import centerness, distances, positives_by_level, split_locations
from fcos_kernels.common.outputs import Outputs, activate
from fcos_kernels.common.tensors import compute_dtype
from fcos_kernels.loss.box import box_terms
from fcos_kernels.loss.plain_focal import background_scratch, background_sum, positive_terms
from fcos_kernels.loss.types import FLOAT16_GAIN, AssignedTargets, Gradients, Settings


def losses(outputs: Outputs, targets: AssignedTargets, settings: Settings, gradients: Gradients) -> tuple[Tensor, ...]:
    """The three losses of dense outputs; writes all of `gradients`, or those buffers that are there."""
    index, positives = targets.index, targets.positives
    dtype = compute_dtype(outputs.classes[0])
    row_P = index[index >= 0]
    check_rows("index", row_P, len(targets.boxes))
    check_labels("labels", targets.labels[row_P], outputs.classes[0].shape[1])
    grids = [(x.shape[2], x.shape[3]) for x in outputs.classes]
    cells, class_cells = [], []
    chosen, raw, target, qualities = [], [], [], []
    class_total = torch.zeros((), dtype=torch.float64, device=index.device)
    any_ignored = bool((index == -2).any())
    half = outputs.classes[0].dtype == torch.float16
    class_scale = index.new_full((), FLOAT16_GAIN, dtype=dtype) if half else positives.to(dtype).reciprocal()
    scratch = background_scratch(outputs.classes)
    begin = 0
    for level, (image, location, row) in enumerate(positives_by_level(index, grids)):
        rows, columns = grids[level]
        y, x = torch.div(location, max(columns, 1), rounding_mode="floor"), location % max(columns, 1)
        cells.append((image, y, x))
        class_cells.append((image, targets.labels[row].long(), y, x))
        logits = outputs.classes[level]
        ignored = None
        if any_ignored:
            ignored = (index[:, begin : begin + rows * columns] == -2).view(-1, 1, rows, columns)
        grad = gradients.classes[level] if gradients.classes else None
        class_total += background_sum(logits, ignored, settings.alpha, settings.gamma, scratch, class_scale, grad)
        begin += rows * columns

        chosen.append(logits[class_cells[-1]].to(dtype))
        raw.append(outputs.boxes[level][image, :, y, x].to(dtype))
        place = split_locations(location, max(columns, 1), settings.strides[level], settings.starts[level])
        target.append(distances(targets.boxes[row], *place).to(dtype) / settings.units[level])
        if outputs.qualities:
            qualities.append(outputs.qualities[level][image, 0, y, x].to(dtype))

    counts = [len(part) for part in chosen]
    gain_P, slope_P = positive_terms(torch.cat(chosen), settings.alpha, settings.gamma)
    class_total += gain_P.sum(dtype=torch.float64)
    if gradients.classes:
        slopes = (slope_P * class_scale).split(counts)
        for grad, cell, part in zip(gradients.classes, class_cells, slopes, strict=True):
            grad[cell] = part.to(grad.dtype)

    raw_P4, target_P4 = torch.cat(raw), torch.cat(target)
    scales = outputs.scales
    scale_P1 = scales.to(dtype).repeat_interleave(torch.tensor(counts, device=scales.device))[:, None]
    predicted_P4, slope_P4 = activate(raw_P4 * scale_P1, settings.activation)
    terms = box_terms(predicted_P4, target_P4, settings.box_loss, settings.iou_smoothing)
    center_P = centerness(target_P4)
    weight_P = center_P if settings.box_weight == "centerness" else torch.ones_like(center_P)
    box_total = (terms.loss * weight_P).sum(dtype=torch.float64) / targets.box_normalizer
    if gradients.scales is not None:
        inner_P4 = terms.gradient * slope_P4 * (weight_P / targets.box_normalizer.to(dtype))[:, None]
        gradients.scales.copy_(torch.stack([part.sum() for part in (inner_P4 * raw_P4).split(counts)]))
        _scatter(inner_P4 * scale_P1, counts, cells, gradients.boxes)

    quality_total = raw_P4.new_zeros(0)
    if outputs.qualities:
        q_P = torch.cat(qualities)
        y_P = center_P if settings.quality == "centerness" else terms.iou
        quality_total = (torch.nn.functional.softplus(q_P) - y_P * q_P).sum(dtype=torch.float64)
        if gradients.qualities:
            _scatter(((q_P.sigmoid() - y_P) / positives.to(dtype))[:, None], counts, cells, gradients.qualities)
    quality_sum = quality_total.sum() / positives
    return (class_total / positives).to(dtype), box_total.to(dtype), quality_sum.to(dtype)


def _scatter(
    rows: Tensor, counts: list[int], cells: list[tuple[Tensor, Tensor, Tensor]], buffers: list[Tensor]
) -> None:
    """Zeros with `rows` [P, channels] at the cells of every level."""
    for buffer, (image, y, x), part in zip(buffers, cells, rows.split(counts), strict=True):
        buffer.zero_()[image, :, y, x] = part.to(buffer.dtype)
