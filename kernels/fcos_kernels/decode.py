"""From the head's outputs to scored boxes, before non-maximum suppression.

With p = sigmoid(class logit), q = the quality and (l, t, r, b) = units * exp(s x) or units * max(s x, 0) in float32
(FCOS, arXiv 1904.01355, section 3; fcos-spec section 7):

    candidates: (location, class) pairs with p > threshold (or score > threshold)
    kept:       per level and image the `candidates` pairs of the highest p q (or p), ties by location, then class
    score:      sqrt(p q) or p q; p where there is no quality
    box:        (x - l, y - t, x + r, y + b), clipped to the image

Logits are first held, in their own dtype, against the threshold's logit less a margin; p is computed for those that
pass, and decides. Bytes that must move: the logits once. No loop over images or classes.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from fcos_kernels.checks import (
    check_choice,
    check_levels,
    check_outputs,
    check_positive,
    check_same_device,
    check_tensor,
)
from fcos_kernels.locations import centerness, split_locations
from fcos_kernels.loss import activate

# the float32 sigmoid is nearer than this, relatively, to the exact one
PROBABILITY_MARGIN = 1e-6


class Candidates(NamedTuple):
    """Scored boxes, by image, then level, then descending rank.

    image: int64 [K].
    boxes: float32 [K, 4] xyxy in input pixels, clipped to the image.
    scores: float32 [K].
    labels: int64 [K].
    level: int64 [K], position in the list of levels.
    location: int64 [K], row in the level-concatenated order of an image's locations.
    """

    image: Tensor
    boxes: Tensor
    scores: Tensor
    labels: Tensor
    level: Tensor
    location: Tensor


class _Rule(NamedTuple):
    activation: str
    quality: str
    threshold: float
    threshold_on: str
    rank_by: str
    score: str
    candidates: int


@torch.no_grad()
def decode(
    class_logits: Sequence[Tensor],
    box_outputs: Sequence[Tensor],
    quality_logits: Sequence[Tensor] | None,
    scales: Tensor,
    *,
    sizes: Tensor,
    strides: Sequence[int],
    starts: Sequence[int],
    units: Sequence[float],
    activation: str,
    quality: str,
    score_threshold: float,
    threshold_on: str = "class",
    rank_by: str = "score",
    score: str = "sqrt",
    candidates: int = 1000,
) -> Candidates:
    """Candidates of a batch.

    Args:
        class_logits: per level [N, C, H, W], any memory format, float32, bfloat16 or float16.
        box_outputs: per level [N, 4, H, W]: l, t, r, b before scale and activation.
        quality_logits: per level [N, 1, H, W]; needed by quality "centerness" and "iou", else unused.
        scales: float32 [levels], factor of each level's box output.
        sizes: int64 [N, 2], height and width in pixels of each image before padding.
        strides, starts, units: per level, pixels between locations, coordinate of the first, pixels of a distance of 1.
        activation: "exp" or "relu".
        quality: "centerness" or "iou" take the branch's sigmoid, "from_box" the predicted box's centre-ness; or "none".
        score_threshold: what candidates must exceed.
        threshold_on: "class" holds p against it, "score" the score.
        rank_by: "score" ranks by p q, "class" by p.
        score: "sqrt" or "product" of p q.
        candidates: kept per level and image.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or name.
    """
    check_levels(class_logits=class_logits, box_outputs=box_outputs, strides=strides, starts=starts, units=units)
    check_choice("activation", activation, ("exp", "relu"))
    check_choice("quality", quality, ("centerness", "iou", "none", "from_box"))
    check_choice("threshold_on", threshold_on, ("class", "score"))
    check_choice("rank_by", rank_by, ("score", "class"))
    check_choice("score", score, ("sqrt", "product"))
    check_positive("strides", strides)
    check_positive("units", units)
    check_positive("candidates", [candidates])
    branch = quality in ("centerness", "iou")
    if branch and quality_logits is None:
        raise ValueError(f"quality_logits must be given with quality {quality!r}")
    check_outputs(class_logits, box_outputs, quality_logits if branch else None)
    check_tensor("scales", scales, (torch.float32, torch.float64), [len(class_logits)])
    check_tensor("sizes", sizes, torch.int64, [class_logits[0].shape[0], 2])
    check_same_device(class_logits[0], scales=scales)
    rule = _Rule(activation, quality, score_threshold, threshold_on, rank_by, score, candidates)

    parts: list[Candidates] = []
    before = 0
    for level, logits in enumerate(class_logits):
        part = _decode_level(
            logits,
            box_outputs[level],
            quality_logits[level] if branch and quality_logits is not None else None,
            scales[level].float(),
            (strides[level], starts[level], units[level]),
            rule,
        )
        parts.append(part._replace(level=part.level + level, location=part.location + before))
        before += logits.shape[2] * logits.shape[3]
    found = Candidates(*(torch.cat(fields) for fields in zip(*parts, strict=True)))
    by_image = found.image.argsort(stable=True)
    ordered = Candidates(*(field[by_image] for field in found))
    limits = sizes.to(ordered.boxes.device)[ordered.image].flip(1).repeat(1, 2).to(ordered.boxes.dtype)
    return ordered._replace(boxes=torch.minimum(ordered.boxes.clamp(min=0), limits))


def _decode_level(
    logits: Tensor,
    box_output: Tensor,
    quality_logit: Tensor | None,
    scale: Tensor,
    geometry: tuple[int, int, float],
    rule: _Rule,
) -> Candidates:
    """One level's candidates by image, then descending rank; boxes not clipped, level 0, locations of this level."""
    columns = max(logits.shape[3], 1)
    image, label, y, x = _above(logits, _lowest_probability(rule))
    location = y * columns + x
    p = logits[image, label, y, x].float().sigmoid()
    if quality_logit is not None:
        q = quality_logit[image, 0, y, x].float().sigmoid()
    elif rule.quality == "from_box":
        q = centerness(_distances(box_output, scale, image, y, x, rule.activation))
    else:
        q = None
    product = p if q is None else p * q
    score = product.sqrt() if q is not None and rule.score == "sqrt" else product

    chosen = ((p if rule.threshold_on == "class" else score) > rule.threshold).nonzero()[:, 0]
    rank = (product if rule.rank_by == "score" else p)[chosen]
    # last key first; sorts are stable, and one sort of (image, location, class) is enough for contiguous outputs
    order = ((image * logits.shape[2] * columns + location) * logits.shape[1] + label)[chosen].argsort()
    order = order[rank[order].argsort(descending=True, stable=True)]
    order = order[image[chosen][order].argsort(stable=True)]
    owner = image[chosen][order]
    first = torch.searchsorted(owner, torch.arange(logits.shape[0], device=owner.device))
    place = torch.arange(len(owner), device=owner.device) - first[owner]
    kept = chosen[order[place < rule.candidates]]

    stride, start, unit = geometry
    image, y, x, location = image[kept], y[kept], x[kept], location[kept]
    cx, cy = split_locations(location, columns, stride, start)
    l, t, r, b = (_distances(box_output, scale, image, y, x, rule.activation) * unit).unbind(1)  # noqa: E741
    boxes = torch.stack([cx - l, cy - t, cx + r, cy + b], dim=1)
    return Candidates(image, boxes, score[kept], label[kept], torch.zeros_like(image), location)


def _lowest_probability(rule: _Rule) -> float:
    """A class probability that every candidate exceeds: qualities are at most 1."""
    root = rule.threshold_on == "score" and rule.score == "sqrt" and rule.quality != "none"
    return rule.threshold * abs(rule.threshold) if root else rule.threshold


def _above(logits: Tensor, probability: float) -> tuple[Tensor, ...]:
    """Indices (image, class, y, x) of all logits whose probability may exceed the given one, and of few others."""
    lowest = min(probability, 1.0) * (1 - PROBABILITY_MARGIN)
    # rounding this to the logits' dtype moves it past no logit upwards
    passed = logits >= (math.log(lowest / (1 - lowest)) if lowest > 0 else -torch.inf)
    if passed.is_contiguous() or not passed.is_contiguous(memory_format=torch.channels_last):
        return passed.nonzero(as_tuple=True)
    image, y, x, label = passed.permute(0, 2, 3, 1).nonzero(as_tuple=True)
    return image, label, y, x


def _distances(box_output: Tensor, scale: Tensor, image: Tensor, y: Tensor, x: Tensor, activation: str) -> Tensor:
    """[K, 4] predicted l, t, r, b in units, float32, at the given cells."""
    return activate(box_output[image, :, y, x].float() * scale, activation)[0]
