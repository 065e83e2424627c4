"""A training that starts from a detector whose normalisation was trained."""

from pathlib import Path

import pytest
import torch

from fcos_cli.errors import WeightsError
from fcos_cli.recipe.schema import Recipe
from fcos_cli.weights.saved import load_detector
from fcos_cli.weights.starting import start_from


def changed(recipe: Recipe, **backbone: object) -> Recipe:
    values = recipe.model_dump()
    values["model"]["backbone"] |= backbone
    return Recipe.model_validate(values)


def test_trained_batchnorm_may_be_frozen(tiny_detector: Path) -> None:
    detector = load_detector(tiny_detector)
    with torch.no_grad():
        detector.model.backbone.bn1.running_mean.fill_(0.25)
    frozen = changed(detector.recipe, norm="frozen_bn", frozen_stages=2)
    model, notes = start_from(detector, frozen, detector.categories)
    assert notes[0].endswith("3 of 3 classes known to them by name")
    pixels = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        found, wanted = model.eval()(pixels), detector.model.eval()(pixels)
    for ours, theirs in zip(found["classification"], wanted["classification"], strict=True):
        torch.testing.assert_close(ours, theirs)


def test_another_architecture_is_refused(tiny_detector: Path) -> None:
    detector = load_detector(tiny_detector)
    with pytest.raises(WeightsError, match="does not fit the recipe's model"):
        start_from(detector, changed(detector.recipe, norm="gn"), detector.categories)
