"""The model a training starts from: random, with a published backbone, or with a whole detector's weights."""

import torch
from torch import Tensor

from fcos_cli.data.records import Categories
from fcos_cli.errors import WeightsError
from fcos_cli.model.fcos import FCOS
from fcos_cli.model.pixels import PixelFormat
from fcos_cli.recipe.schema import Recipe, WeightStyle
from fcos_cli.weights.importing import COUNTER
from fcos_cli.weights.loading import class_layers, foreign_model, load_backbone
from fcos_cli.weights.opening import find_file, is_foreign
from fcos_cli.weights.published import resolve_style
from fcos_cli.weights.saved import Detector, load_detector


def build_model(
    recipe: Recipe,
    categories: Categories,
    *,
    resumed: WeightStyle | None = None,
    resumed_pixels: PixelFormat | None = None,
) -> tuple[FCOS, list[str]]:
    """The recipe's model, and notes on where its weights come from.

    Args:
        resumed: where a checkpoint will fill the model: the style of its weights. Nothing is loaded then.
        resumed_pixels: their pixel format; None: what is usual in their style.

    Raises:
        WeightsError: weights that are missing, broken, or do not fit.
    """
    if resumed is not None:
        return FCOS(recipe.model, len(categories), resumed, resumed_pixels), []
    start = recipe.model.weights
    if not start:
        model = FCOS(recipe.model, len(categories), resolve_style(recipe.model.backbone))
        return model, load_backbone(model) if recipe.model.backbone.weights else []
    path = find_file(start)
    if is_foreign(path):
        return foreign_model(recipe.model, len(categories), categories)
    return start_from(load_detector(path), recipe, categories)


def start_from(detector: Detector, recipe: Recipe, categories: Categories) -> tuple[FCOS, list[str]]:
    """A model of the recipe's with a detector's weights; classes are matched by name, new ones start at random.

    Raises:
        WeightsError: the detector's architecture is not the recipe's.
    """
    model = FCOS(recipe.model, len(categories), detector.model.style, detector.model.pixels)
    source, target = detector.model.state_dict(), model.state_dict()
    shared = _same_classes(detector.categories, categories)
    layers = class_layers(model)
    wrong = [
        name
        for name, value in target.items()
        if name not in source or not _fits(source[name], value, by_class=name.startswith(layers))
    ]
    # a count of batches is all that a trained BatchNorm has beyond a frozen one
    wrong += [name for name in source.keys() - target.keys() if not name.endswith(COUNTER)]
    if wrong:
        raise WeightsError(
            f"{detector.path} does not fit the recipe's model: {', '.join(wrong[:4])}",
            "make the recipe's [model] that of the weights: fcos recipe show --resolved RUN/recipe.toml",
        )
    with torch.no_grad():
        for name, value in target.items():
            if not name.startswith(layers):
                value.copy_(source[name])
            elif shared:
                ours, theirs = (torch.tensor(column) for column in zip(*shared, strict=True))
                groups = model.head.class_groups
                rows, former = (t.unflatten(0, (groups, -1)) for t in (value, source[name]))
                rows[:, ours] = former[:, theirs]
    kept = f"{len(shared)} of {len(categories)} classes known to them by name"
    return model, [f"weights from {detector.path}: {kept}"]


def _same_classes(old: Categories, new: Categories) -> list[tuple[int, int]]:
    """(new label, old label) of the classes that both have."""
    labels = {name: label for label, name in enumerate(old.names)}
    return [(label, labels[name]) for label, name in enumerate(new.names) if name in labels]


def _fits(source: Tensor, target: Tensor, by_class: bool) -> bool:
    start = 1 if by_class else 0
    return source.shape[start:] == target.shape[start:]
