"""`decode` in plain PyTorch, written for the CPU; also what a GPU runs where Triton is not used.

A level's logits are held against one number, in their own dtype: on a CPU by NumPy, as whole numbers, which takes a
tenth of the time of PyTorch's comparison and `nonzero`. Survivors of all levels are then one list. What they need is
gathered, one stable sort of whole numbers orders them, and boxes are made of those that are kept.
"""

import numpy as np
import torch
from torch import Tensor

from fcos_kernels.common.levels import begins
from fcos_kernels.common.locations import centerness
from fcos_kernels.common.outputs import Outputs, activate
from fcos_kernels.decode.types import Candidates, PaddedCandidates, Rule

SAME_BITS: dict[torch.dtype, tuple[torch.dtype, str]] = {
    torch.float64: (torch.int64, "<u8"),
    torch.float32: (torch.int32, "<u4"),
    torch.bfloat16: (torch.int16, "<u2"),
    torch.float16: (torch.int16, "<u2"),
}
"""Whole numbers as wide as a float: signed ones for PyTorch, unsigned ones for NumPy."""
LAST = 2**31 - 1


def candidates_of(outputs: Outputs, sizes: Tensor, rule: Rule) -> Candidates:
    """Candidates of the outputs, which have passed the checks of `decode`."""
    classes, lowest = outputs.classes, rule.lowest_logit()
    device, images = classes[0].device, len(classes[0])
    parts = [_reaching(logits, lowest) for logits in classes]
    counts = torch.tensor([len(part[0]) for part in parts], device=device)
    image, cell, label, x = (torch.cat(fields) for fields in zip(*parts, strict=True))
    level = torch.arange(len(classes), device=device).repeat_interleave(counts, output_size=len(image))
    p = _sigmoid(x)
    q = None
    if outputs.qualities:
        pairs = zip(outputs.qualities, parts, strict=True)
        q = _sigmoid(torch.cat([_gather(output, *part[:2])[:, 0] for output, part in pairs]))
    elif rule.quality == "from_box":
        q = centerness(_distances(outputs, rule, level, image, cell))
    product = p if q is None else p * q
    score = product.sqrt() if q is not None and rule.score == "sqrt" else product

    chosen = ((p if rule.threshold_on == "class" else score) > rule.threshold).nonzero()[:, 0]
    rank = (product if rule.rank_by == "score" else p)[chosen]
    group = (image * len(classes) + level)[chosen]
    order = _order(group, rank)
    group = group[order]
    first = torch.searchsorted(group, torch.arange(images * len(classes), device=device))
    place = torch.arange(len(group), device=device) - first[group]
    kept = chosen[order[place < rule.candidates]]

    image, level, cell = image[kept], level[kept], cell[kept]
    table = torch.tensor(_numbers(outputs, rule), dtype=torch.float64, device=device)
    begin, columns, stride, start, unit = table[:, level]
    row = (cell / columns).floor()
    cx, cy = start + (cell - row * columns) * stride, start + row * stride
    distance = _distances(outputs, rule, level, image, cell) * unit.float()[:, None]
    centre = torch.stack([cx, cy], dim=1).float()
    boxes = torch.cat([centre - distance[:, :2], centre + distance[:, 2:]], dim=1)
    limits = sizes.to(device)[image].flip(1).repeat(1, 2).to(boxes.dtype)
    boxes = torch.minimum(boxes.clamp(min=0), limits)
    return Candidates(image, boxes, score[kept], label[kept], level, cell + begin.long())


def padded(candidates: Candidates, class_logits: list[Tensor], rule: Rule) -> PaddedCandidates:
    """Candidates, each level's of an image in its place."""
    images, levels, most = class_logits[0].shape[0], len(class_logits), rule.most(class_logits)
    device = candidates.scores.device
    level_of_row = torch.arange(levels, device=device).repeat_interleave(torch.tensor(most, device=device))
    group = candidates.image * levels + candidates.level
    first = torch.searchsorted(group, torch.arange(images * levels, device=device))
    place = torch.arange(len(group), device=device) - first[group]
    column = torch.tensor(begins(most), device=device)[candidates.level] + place
    shape = (images, sum(most))
    boxes = torch.zeros((*shape, 4), device=device)
    scores = torch.full(shape, -1.0, device=device)
    labels, location = (torch.zeros(shape, dtype=torch.int32, device=device) for _ in range(2))
    boxes[candidates.image, column] = candidates.boxes
    scores[candidates.image, column] = candidates.scores
    labels[candidates.image, column] = candidates.labels.int()
    location[candidates.image, column] = candidates.location.int()
    return PaddedCandidates(boxes, scores, labels, level_of_row.int().repeat(images, 1), location)


def _reaching(logits: Tensor, lowest: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Image, cell, class and float32 value of logits that reach `lowest` (and of some NaN), in this order."""
    channels, cells = logits.shape[1], logits.shape[2] * logits.shape[3]
    last = not logits.is_contiguous() and logits.is_contiguous(memory_format=torch.channels_last)
    flat = logits.permute(0, 2, 3, 1).reshape(-1) if last else logits.reshape(-1)
    if logits.device.type == "cpu":
        place = torch.from_numpy(_places(flat, lowest))
    else:
        place = (flat >= lowest).nonzero()[:, 0]
    if last:
        row = place // channels
        image, cell, label = row // cells, row % cells, place - row * channels
    else:
        row = place // cells
        image, cell, label = row // channels, place - row * cells, row % channels
        order = ((image * cells + cell) * channels + label).argsort()
        image, cell, label, place = image[order], cell[order], label[order], place[order]
    return image, cell, label, flat[place].float()


def _places(flat: Tensor, lowest: float) -> np.ndarray:
    """Where logits reach `lowest`, or are NaN with no sign. Floats of one sign are in the order of their bits."""
    signed, unsigned = SAME_BITS[flat.dtype]
    bound = torch.tensor(lowest, dtype=flat.dtype).view(signed).numpy()
    bits = flat.detach().view(signed).numpy()
    return np.flatnonzero(bits.view(unsigned) <= bound.view(unsigned) if bound < 0 else bits >= bound)


def _order(group: Tensor, rank: Tensor) -> Tensor:
    """By group, then descending rank (not negative; NaN first), then as they come."""
    bits = rank.view(torch.int32).bitwise_and(LAST)
    return (group * 2**31 + (LAST - bits)).argsort(stable=True)


def _sigmoid(x: Tensor) -> Tensor:
    """In float32, by way of float64: PyTorch's float32 one depends in its last bit on where in the tensor a value is.

    Equal logits would not tie, and an image's candidates would depend on the other images of its batch.
    """
    return x.double().sigmoid().float()


def _gather(output: Tensor, image: Tensor, cell: Tensor) -> Tensor:
    """float32 [K, channels] of one level of one of the head's outputs."""
    channels, cells = output.shape[1], output.shape[2] * output.shape[3]
    if not output.is_contiguous() and output.is_contiguous(memory_format=torch.channels_last):
        return output.permute(0, 2, 3, 1).reshape(-1, channels)[image * cells + cell].float()
    each = torch.arange(channels, device=output.device)
    return output.reshape(-1)[(image[:, None] * channels + each) * cells + cell[:, None]].float()


def _distances(outputs: Outputs, rule: Rule, level: Tensor, image: Tensor, cell: Tensor) -> Tensor:
    """[K, 4] predicted l, t, r, b in units, float32."""
    raw = torch.empty((len(level), 4), device=level.device)
    for number, output in enumerate(outputs.boxes):
        rows = (level == number).nonzero()[:, 0]
        raw[rows] = _gather(output, image[rows], cell[rows])
    scaled = raw * outputs.scales.float()[level][:, None]
    # exp in float64, for the same reason as the sigmoid
    return activate(scaled.double() if rule.activation == "exp" else scaled, rule.activation)[0].float()


def _numbers(outputs: Outputs, rule: Rule) -> list[list[float]]:
    """Per level: first location, columns, stride, start, unit."""
    first = begins([x.shape[2] * x.shape[3] for x in outputs.classes])
    columns = [float(max(x.shape[3], 1)) for x in outputs.classes]
    return [[float(x) for x in first], columns, list(rule.strides), list(rule.starts), list(rule.units)]
