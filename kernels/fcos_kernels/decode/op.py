"""From the head's outputs to scored boxes, before non-maximum suppression.

With p = sigmoid(class logit), q = the quality and (l, t, r, b) = units * exp(s x) or units * max(s x, 0) in float32
(FCOS, arXiv 1904.01355, section 3; docs/method.md, Inference):

    candidates: (location, class) pairs with p > threshold (or score > threshold)
    kept:       per level and image the `candidates` pairs of the highest p q (or p), ties by location, then class
    score:      sqrt(p q) or p q; p where there is no quality
    box:        (x - l, y - t, x + r, y + b), clipped to the image

Logits are first held, in their own dtype, against the threshold's logit less a margin; p is computed for those that
pass, and decides. A class logit that is NaN is no candidate. Bytes that must move: the logits once.

`decode` returns as many rows as there are candidates, `decode_padded` the same ones in a shape that is known before, so
that nothing waits for a GPU. There it runs Triton (`launch.py`); the rest is plain PyTorch (`plain.py`).
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from fcos_kernels.common import dispatch
from fcos_kernels.common.checks import (
    check_choice,
    check_levels,
    check_locations,
    check_number,
    check_outputs,
    check_positive,
    check_same_device,
    check_tensor,
    check_whole,
)
from fcos_kernels.common.outputs import Outputs
from fcos_kernels.decode import plain
from fcos_kernels.decode.types import Candidates, PaddedCandidates, Rule

__all__ = ["Candidates", "PaddedCandidates", "Rule", "decode", "decode_padded"]


@torch.no_grad()
def decode(
    class_logits: Sequence[Tensor],
    box_outputs: Sequence[Tensor],
    quality_logits: Sequence[Tensor] | None,
    scales: Tensor,
    sizes: Tensor,
    rule: Rule,
) -> Candidates:
    """Candidates of a batch. Waits for a GPU, to know how many there are.

    Args:
        class_logits: per level [N, C, H, W], any memory format, float32, bfloat16, float16 or float64.
        box_outputs: per level [N, 4, H, W]: l, t, r, b before scale and activation.
        quality_logits: per level [N, 1, H, W]; needed by quality "centerness" and "iou", else unused.
        scales: float32 or float64 [levels], factor of each level's box output.
        sizes: int64 [N, 2], height and width in pixels of each image before padding, on the CPU or beside the outputs.
        rule: geometry, what the outputs mean, thresholds and limits.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or name.
    """
    outputs = _checked(class_logits, box_outputs, quality_logits, scales, sizes, rule)
    with torch.autocast(scales.device.type, enabled=False):
        return plain.candidates_of(outputs, sizes, rule)


@torch.no_grad()
def decode_padded(
    class_logits: Sequence[Tensor],
    box_outputs: Sequence[Tensor],
    quality_logits: Sequence[Tensor] | None,
    scales: Tensor,
    sizes: Tensor,
    rule: Rule,
) -> PaddedCandidates:
    """Candidates of a batch as `decode` finds them, in K = sum over levels of min(candidates, C H W) rows an image.

    Takes what `decode` takes. With Triton nothing waits for the GPU, but float64 outputs and levels of different dtypes
    go through plain PyTorch, which does.

    Raises:
        TypeError, ValueError: an argument of the wrong type, shape, device or name.
    """
    outputs = _checked(class_logits, box_outputs, quality_logits, scales, sizes, rule)
    fields = _decode_padded(
        outputs.classes,
        outputs.boxes,
        outputs.qualities,
        scales,
        sizes,
        list(rule.strides),
        list(rule.starts),
        [float(unit) for unit in rule.units],
        rule.activation,
        rule.quality,
        float(rule.threshold),
        *rule[6:],
    )
    return PaddedCandidates(*fields)


def _checked(
    class_logits: Sequence[Tensor],
    box_outputs: Sequence[Tensor],
    quality_logits: Sequence[Tensor] | None,
    scales: Tensor,
    sizes: Tensor,
    rule: Rule,
) -> Outputs:
    """The outputs that are needed. Raises TypeError or ValueError unless all fits together."""
    check_levels(
        class_logits=class_logits, box_outputs=box_outputs, strides=rule.strides, starts=rule.starts, units=rule.units
    )
    check_choice("activation", rule.activation, ("exp", "relu"))
    check_choice("quality", rule.quality, ("centerness", "iou", "none", "from_box"))
    check_choice("threshold_on", rule.threshold_on, ("class", "score"))
    check_choice("rank_by", rule.rank_by, ("score", "class"))
    check_choice("score", rule.score, ("sqrt", "product"))
    check_positive("units", rule.units)
    check_number("threshold", rule.threshold)
    check_whole("candidates", [rule.candidates])
    check_positive("candidates", [rule.candidates])
    branch = rule.quality in ("centerness", "iou")
    if branch and quality_logits is None:
        raise ValueError(f"quality_logits must be given with quality {rule.quality!r}")
    check_outputs(class_logits, box_outputs, quality_logits if branch else None)
    check_locations([(x.shape[2], x.shape[3]) for x in class_logits], rule.strides, rule.starts)
    check_tensor("scales", scales, (torch.float32, torch.float64), [len(class_logits)])
    check_tensor("sizes", sizes, torch.int64, [class_logits[0].shape[0], 2])
    check_same_device(class_logits[0], scales=scales)
    return Outputs(
        list(class_logits),
        list(box_outputs),
        list(quality_logits) if branch and quality_logits is not None else [],
        scales,
    )


@torch.library.custom_op("fcos_kernels::decode_padded", mutates_args=())
def _decode_padded(
    class_logits: Sequence[Tensor],
    box_outputs: Sequence[Tensor],
    quality_logits: Sequence[Tensor],
    scales: Tensor,
    sizes: Tensor,
    strides: Sequence[int],
    starts: Sequence[int],
    units: Sequence[float],
    activation: str,
    quality: str,
    threshold: float,
    threshold_on: str,
    rank_by: str,
    score: str,
    candidates: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The fields of `PaddedCandidates`."""
    rule = Rule(strides, starts, units, activation, quality, threshold, threshold_on, rank_by, score, candidates)
    outputs = Outputs(list(class_logits), list(box_outputs), list(quality_logits), scales)
    if dispatch.use_triton(scales.device):
        from fcos_kernels.decode import launch

        if launch.supports(outputs, rule):
            return launch.launch(outputs.dense(), _beside(sizes, scales.device), rule)
    with torch.autocast(scales.device.type, enabled=False):
        scored = plain.candidates_of(outputs, sizes, rule)
        return plain.padded(scored, outputs.classes, rule)


def _beside(sizes: Tensor, device: torch.device) -> Tensor:
    """On the device; a copy from memory that is not pinned would wait until the GPU has done all it was given."""
    if device.type == "cuda" and sizes.device.type == "cpu":
        sizes = sizes.pin_memory()
    return sizes.to(device, non_blocking=True)


@_decode_padded.register_fake
def _fake(class_logits: Sequence[Tensor], *others: Any) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    rule = Rule(*others[4:])
    return rule.empty(class_logits)
