"""Decoding once more, straight from its definition, float64, in NumPy. Tests hold the others to it."""

import math
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from fcos_kernels.common.outputs import Outputs
from fcos_kernels.decode.types import Rule

Floats = NDArray[np.float64]


class Level(NamedTuple):
    """All pairs of one level of one image: rank, score and whether they are candidates [L, C]; boxes [L, 4]."""

    rank: Floats
    score: Floats
    may: NDArray[np.bool_]
    boxes: Floats


class Row(NamedTuple):
    """One candidate; `location` counts over the levels."""

    image: int
    level: int
    location: int
    label: int
    score: float
    box: list[float]


def decode(outputs: Outputs, sizes: Tensor, rule: Rule) -> list[Row]:
    """Candidates by image, level, then descending rank; ties by location, then class."""
    rows = []
    for image in range(len(sizes)):
        before = 0
        for level, logits in enumerate(outputs.classes):
            all_pairs = of_level(outputs, sizes, rule, level, image)
            pairs = [(-all_pairs.rank[place], *place) for place in zip(*all_pairs.may.nonzero(), strict=True)]
            for _, cell, label in sorted(pairs)[: rule.candidates]:
                score, box = float(all_pairs.score[cell, label]), all_pairs.boxes[cell].tolist()
                rows.append(Row(image, level, before + int(cell), int(label), score, box))
            before += logits.shape[2] * logits.shape[3]
    return rows


def of_level(outputs: Outputs, sizes: Tensor, rule: Rule, level: int, image: int) -> Level:
    """Every location and class of one level of one image."""

    def array(group: list[Tensor]) -> Floats:
        x: Floats = group[level][image].detach().cpu().double().permute(1, 2, 0).flatten(0, 1).numpy()
        return x

    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):
        p = _sigmoid(array(outputs.classes))
        raw = array(outputs.boxes) * float(outputs.scales[level])
        sides = np.exp(np.minimum(raw, 40)) if rule.activation == "exp" else np.clip(raw, 0, math.exp(40))
        if rule.quality == "none":
            q = np.ones((len(p), 1))
        elif rule.quality == "from_box":
            l, t, r, b = sides.T  # noqa: E741
            ratio = np.minimum(l, r) / np.maximum(l, r) * np.minimum(t, b) / np.maximum(t, b)
            q = np.sqrt(np.nan_to_num(ratio))[:, None]
        else:
            q = _sigmoid(array(outputs.qualities))
        score = np.sqrt(p * q) if rule.score == "sqrt" and rule.quality != "none" else p * q
        held = p if rule.threshold_on == "class" else score
    height, width = sizes[image].tolist()
    y, x = np.divmod(np.arange(len(p)), max(outputs.classes[level].shape[3], 1))
    centre = np.stack([x, y], axis=1) * rule.strides[level] + rule.starts[level]
    far = sides * rule.units[level]
    boxes = np.concatenate([centre - far[:, :2], centre + far[:, 2:]], axis=1)
    boxes = np.clip(boxes, 0, [width, height, width, height])
    return Level(p * q if rule.rank_by == "score" else p, score, held > rule.threshold, boxes)


def _sigmoid(x: Floats) -> Floats:
    return np.asarray(1 / (1 + np.exp(-x)))
