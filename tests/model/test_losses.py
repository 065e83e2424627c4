"""What a recipe makes of ground truth: which boxes locations learn, and what normalises the losses."""

import pytest
import torch

from fcos_cli.data.loading.tensors import Targets
from fcos_cli.model.losses import DetectionLoss
from fcos_cli.recipe.schema import Recipe

# One image: a crowd over the left half, an object within it and one outside of it.
TARGETS = Targets(
    boxes=torch.tensor([[0.0, 0, 96, 192], [20, 20, 60, 60], [120, 20, 170, 60]]),
    labels=torch.tensor([0, 1, 1], dtype=torch.int32),
    ignore=torch.tensor([True, False, False]),
    offsets=torch.tensor([0, 3]),
)


def loss(ignore_crowd: bool) -> DetectionLoss:
    recipe = Recipe.model_validate({"assign": {"ignore_crowd": ignore_crowd}})
    pyramid = recipe.model.pyramid.geometry()
    return DetectionLoss(recipe, pyramid, [1.0] * len(pyramid.levels))


@pytest.mark.parametrize("ignore_crowd", [False, True])
def test_no_location_ever_learns_a_crowd(ignore_crowd: bool) -> None:
    """The authors' loader drops crowds from the targets; the key only chooses whether they are background."""
    found = loss(ignore_crowd).assign(TARGETS, 192, 192)
    values = set(found.index.unique().tolist())
    assert values == ({-2, -1, 1, 2} if ignore_crowd else {-1, 1, 2})
    without = Targets(TARGETS.boxes[1:], TARGETS.labels[1:], TARGETS.ignore[1:], torch.tensor([0, 2]))
    alone = loss(ignore_crowd).assign(without, 192, 192)
    assert torch.equal(found.index.clamp(min=-1) > 0, alone.index >= 0)
    assert found.positives == alone.positives
    torch.testing.assert_close(found.centerness_sum, alone.centerness_sum)


def test_normalisers_average_over_the_passes_of_a_step() -> None:
    made = loss(False)
    found = made.assign(TARGETS, 192, 192)
    empty = Targets(*(t[:0] for t in (TARGETS.boxes, TARGETS.labels, TARGETS.ignore)), torch.tensor([0, 0]))
    nothing = made.assign(empty, 192, 192)
    assert nothing.positives == 0
    expected = torch.stack((found.positives, found.centerness_sum)) / 2
    torch.testing.assert_close(made.normalizers([found, nothing]), expected)
