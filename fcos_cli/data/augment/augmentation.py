"""The interface of augmentations: what happens at random to a training image on its way into the network.

A new augmentation is one file with an `Augmentation`, its name in `known.py`, and its keys in the recipe's `[data]`
table. It draws from a random stream of its own (`streams.py`): the batches' images and what all other augmentations
draw stay as they were, bit for bit.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Self

import numpy as np

from fcos_cli.data.sample import Sample
from fcos_cli.recipe.schema import DataConfig


class Augmentation(ABC):
    """One augmentation with its settings.

    Attributes:
        name: unique, and the name of its random stream: another name would draw other numbers.
        keys: its keys in the recipe's `[data]` table.
    """

    name: ClassVar[str]
    keys: ClassVar[tuple[str, ...]]

    @classmethod
    @abstractmethod
    def from_recipe(cls, config: DataConfig) -> Self:
        """With the settings of a recipe's `[data]` table."""

    @abstractmethod
    def draw(self, rng: np.random.Generator, sample: Sample) -> Any:
        """What will happen to this sample, at random. Nothing but `rng` may decide; only uniform doubles
        (`rng.random()`) have a stream that NumPy keeps stable over its versions."""

    @abstractmethod
    def apply(self, sample: Sample, drawn: Any) -> Sample:
        """The sample after what `draw` gave. Every box keeps its row: one that leaves the image is cut to nothing, and
        left out of the batch for having no area."""
