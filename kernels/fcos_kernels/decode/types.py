"""What the implementations of `decode` and `decode_padded` take and give."""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

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


class PaddedCandidates(NamedTuple):
    """The same in a shape that does not depend on values: K rows an image, the sum over levels of the most it may give.

    A level's rows lie together, by descending rank; those that are left over have score -1 and are 0 otherwise.

    boxes: float32 [N, K, 4] xyxy in input pixels, clipped to the image.
    scores: float32 [N, K].
    labels: int32 [N, K].
    level: int32 [N, K], position in the list of levels.
    location: int32 [N, K], row in the level-concatenated order of an image's locations.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor
    level: Tensor
    location: Tensor


class Rule(NamedTuple):
    """What `decode` does, beside the outputs and the images' sizes.

    strides, starts, units: per level, pixels between locations, coordinate of the first, pixels of a distance of 1.
    activation: of the box outputs, "exp" or "relu".
    quality: "centerness" or "iou" take the branch's sigmoid, "from_box" the predicted box's centre-ness; or "none".
    threshold: what candidates must exceed.
    threshold_on: "class" holds p against it, "score" the score.
    rank_by: "score" ranks by p q, "class" by p.
    score: "sqrt" or "product" of p q.
    candidates: kept per level and image.
    """

    strides: Sequence[int]
    starts: Sequence[int]
    units: Sequence[float]
    activation: str
    quality: str
    threshold: float
    threshold_on: str = "class"
    rank_by: str = "score"
    score: str = "sqrt"
    candidates: int = 1000

    def most(self, class_logits: Sequence[Tensor]) -> list[int]:
        """Candidates that each level may give for an image."""
        return [min(self.candidates, x.shape[1] * x.shape[2] * x.shape[3]) for x in class_logits]

    def empty(self, class_logits: Sequence[Tensor]) -> PaddedCandidates:
        """Room for all candidates of an image, not yet written."""
        shape = (class_logits[0].shape[0], sum(self.most(class_logits)))
        scores = class_logits[0].new_empty(shape, dtype=torch.float32)
        labels, level, location = (torch.empty_like(scores, dtype=torch.int32) for _ in range(3))
        return PaddedCandidates(scores.new_empty((*shape, 4)), scores, labels, level, location)

    def lowest_logit(self) -> float:
        """A class logit that every candidate reaches, and few others.

        Qualities are at most 1. Rounded to the logits' dtype it is moved past no logit upwards.
        """
        root = self.threshold_on == "score" and self.score == "sqrt" and self.quality != "none"
        probability = self.threshold * abs(self.threshold) if root else self.threshold
        lowest = min(probability, 1.0) * (1 - PROBABILITY_MARGIN)
        return math.log(lowest / (1 - lowest)) if lowest > 0 else -math.inf
