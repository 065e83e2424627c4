"""The augmentations of a training, in the order in which they are applied, and what they make of a sample.

The order decides what each is given, never what another draws.
"""

from collections.abc import Sequence

import numpy as np

from fcos_cli.data.augment.augmentation import Augmentation
from fcos_cli.data.augment.horizontal_flip import HorizontalFlip
from fcos_cli.data.augment.short_side import ShortSide
from fcos_cli.data.augment.streams import random_stream
from fcos_cli.data.augment.vertical_flip import VerticalFlip
from fcos_cli.data.sample import Sample
from fcos_cli.recipe.schema import DataConfig

AUGMENTATIONS: tuple[type[Augmentation], ...] = (ShortSide, HorizontalFlip, VerticalFlip)


def augmentations_of(config: DataConfig) -> tuple[Augmentation, ...]:
    """All augmentations with the settings of a recipe's `[data]` table."""
    return tuple(kind.from_recipe(config) for kind in AUGMENTATIONS)


def augmented(
    sample: Sample, augmentations: Sequence[Augmentation], *, seed: int, iteration: int, place: int
) -> Sample:
    """A sample after all augmentations, its pixels contiguous.

    Args:
        sample: an image in its original size.
        augmentations: in the order in which they are applied; each draws from its own stream.
        seed, iteration, place: as `random_stream` has them.
    """
    for augmentation in augmentations:
        drawn = augmentation.draw(random_stream(seed, iteration, place, augmentation.name), sample)
        sample = augmentation.apply(sample, drawn)
    return Sample(np.ascontiguousarray(sample.image), sample.boxes, sample.ratios, sample.original_size)
