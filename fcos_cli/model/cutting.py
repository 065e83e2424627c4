"""Boxes cut to their image: before or after suppression, in exact or inclusive pixels (docs/method.md, Inference).

In inclusive pixels, which the authors' code counts in, a box of width w ends at x0 + w - 1: its width is x1 - x0 + 1,
and x ends at the image's width - 1. A box that has no area in its image is never reported.
"""

import torch
from torch import Tensor

from fcos_cli.recipe.schema import TestConfig


def is_late(test: TestConfig) -> bool:
    """Whether boxes are cut after suppression."""
    return test.clip == "after"


def extra(test: TestConfig) -> int:
    """Pixels that a width counts beyond x1 - x0."""
    return 1 if test.box_pixels == "inclusive" else 0


def limits(sizes: Tensor, test: TestConfig) -> Tensor:
    """float32 [N, 4], the largest x0, y0, x1 and y1 of each image; `sizes`: [N, 2], (height, width)."""
    return (sizes.flip(1).repeat(1, 2) - extra(test)).float()


def cut(boxes: Tensor, largest: Tensor) -> Tensor:
    """Boxes [..., 4] cut to `limits` of their images, which broadcast."""
    return boxes.clamp(min=0).minimum(largest)


def without_area(boxes: Tensor, test: TestConfig) -> Tensor:
    """bool [...]: boxes [..., 4] without width or height. One that is not a number is none of these."""
    return (boxes[..., 2:] + extra(test) <= boxes[..., :2]).any(dim=-1)


def for_suppression(boxes: Tensor, test: TestConfig) -> Tensor:
    """Boxes [..., 4] whose areas and overlaps are those that suppression is to see."""
    if not extra(test):
        return boxes
    return boxes + torch.tensor([0.0, 0.0, 1.0, 1.0], device=boxes.device)
