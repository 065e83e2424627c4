"""The cases of `decode`: from the head's outputs of a batch to scored boxes.

The rival is the structure of torchvision's FCOS (`postprocess_detections`) in our own words: image by image and level
by level, scores of all pairs, threshold, top k, boxes of the chosen.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from fcos_kernels.bench import problems
from fcos_kernels.bench.case import Case
from fcos_kernels.bench.problems import CLASSES, STARTS, STRIDES, Size, dtype_name
from fcos_kernels.bench.timing import Work
from fcos_kernels.decode import PaddedCandidates, Rule, decode_padded

THRESHOLD, CANDIDATES = 0.05, 1000
RULE = Rule(STRIDES, STARTS, STRIDES, "relu", "centerness", THRESHOLD, candidates=CANDIDATES)


class HeadOutputs(NamedTuple):
    """Of a head whose logits look trained: 2 objects in 100 locations of the finest level."""

    classes: list[Tensor]
    distances: list[Tensor]
    quality: list[Tensor]
    scales: Tensor
    shapes: Tensor


class Found(NamedTuple):
    """Candidates of one image [K], and the largest score that a level may have cut."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    cut: Tensor


def cases(device: torch.device, with_compile: bool) -> Iterator[Case]:
    """Decoding of a batch."""
    for size, dtype in sizes(device):
        yield _decode_case(size, dtype, device)


def sizes(device: torch.device) -> Iterator[tuple[Size, torch.dtype]]:
    """Without the crowded one: candidates do not depend on boxes."""
    for size in problems.sizes(device)[:2]:
        for dtype in (torch.bfloat16, torch.float32):
            yield size, dtype


def head_outputs(size: Size, dtype: torch.dtype, device: torch.device) -> HeadOutputs:
    """Channels-last."""
    rng = torch.Generator().manual_seed(3)

    def outputs(channels: int, shift: float, spread: float) -> list[Tensor]:
        made = (torch.randn(size.images, channels, *grid, generator=rng) * spread + shift for grid in size.grids)
        return [x.to(device, dtype).contiguous(memory_format=torch.channels_last) for x in made]

    classes, distances, quality = outputs(CLASSES, -6.0, 1.0), outputs(4, 3.0, 0.4), outputs(1, 0.0, 1.0)
    for logits in classes:
        hot = torch.rand(size.images, 1, *logits.shape[2:], generator=rng) < 0.02
        label = torch.randint(CLASSES, hot.shape, generator=rng)
        lifted = torch.zeros(logits.shape, dtype=torch.bool).scatter_(1, label, hot)
        logits += lifted.to(device) * 5
    shapes = torch.tensor([[size.height, size.width]] * size.images, device=device)
    return HeadOutputs(classes, distances, quality, torch.ones(len(STRIDES), device=device), shapes)


def _decode_case(size: Size, dtype: torch.dtype, device: torch.device) -> Case:
    outputs = head_outputs(size, dtype, device)

    def ours() -> PaddedCandidates:
        return decode_padded(*outputs, RULE)

    def usual() -> list[Found]:
        return [of_image(outputs, image, size) for image in range(size.images)]

    def compare() -> None:
        candidates = ours()
        for image, (boxes, scores, _, cut) in enumerate(usual()):
            own = candidates.scores[image]
            mine, theirs = own[own >= 0].sort().values, scores.sort().values
            torch.testing.assert_close(mine, theirs, rtol=1e-5, atol=0)
            # equal scores may come in any order, and any of those at the cut of a level may be left out
            sure = cut * (1 + 1e-5)
            sums = [
                (b[s > sure].double() * s[s > sure, None]).sum(0)
                for b, s in ((candidates.boxes[image], own), (boxes, scores))
            ]
            torch.testing.assert_close(*sums, rtol=1e-5, atol=1e-3)

    rivals: dict[str, Work] = {"eager": usual}
    return Case("decode", size_name(size, dtype), bytes_read(outputs), ours, compare, rivals)


def size_name(size: Size, dtype: torch.dtype) -> str:
    """As results call it."""
    return f"{size}, {dtype_name(dtype)} channels-last"


def bytes_read(outputs: HeadOutputs) -> int:
    """Of the class logits."""
    return sum(x.numel() * x.element_size() for x in outputs.classes)


def of_image(outputs: HeadOutputs, image: int, size: Size) -> Found:
    """What torchvision's structure makes of one image; relu distances."""
    classes, distances, quality, *_ = outputs
    boxes, scores, labels = [], [], []
    cut = classes[0].new_zeros((), dtype=torch.float32)
    for level, (stride, start) in enumerate(zip(STRIDES, STARTS, strict=True)):
        p = classes[level][image].permute(1, 2, 0).flatten(0, 1).float().sigmoid()
        q = quality[level][image].permute(1, 2, 0).flatten(0, 1).float().sigmoid()
        score = (p * q).sqrt()[p > THRESHOLD]
        cell, label = (p > THRESHOLD).nonzero(as_tuple=True)
        score, chosen = score.topk(min(CANDIDATES, len(score)))
        if len(score) == CANDIDATES:
            cut = torch.maximum(cut, score[-1])
        cell = cell[chosen]
        columns = classes[level].shape[3]
        far = distances[level][image].permute(1, 2, 0).flatten(0, 1)[cell].float().relu() * stride
        centre = torch.stack([cell % columns, torch.div(cell, columns, rounding_mode="floor")], dim=1) * stride + start
        corners = torch.cat([centre - far[:, :2], centre + far[:, 2:]], dim=1)
        limit = corners.new_tensor([size.width, size.height, size.width, size.height])
        boxes.append(torch.minimum(corners.clamp(min=0), limit))
        scores.append(score)
        labels.append(label[chosen])
    return Found(torch.cat(boxes), torch.cat(scores), torch.cat(labels), cut)
