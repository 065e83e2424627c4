"""The size at which an image enters the network in training: a fixed short side, or one drawn from a range."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from fcos_cli.data.augment.augmentation import Augmentation
from fcos_cli.data.sample import Sample, prepare
from fcos_cli.recipe.schema import DataConfig


@dataclass(frozen=True)
class ShortSide(Augmentation):
    """Resizes by the authors' rule (`geometry/resize.py`).

    Attributes:
        short_side: in pixels; a range is drawn from uniformly, both ends included.
        long_side: largest long side in pixels.
    """

    name: ClassVar[str] = "short_side"
    keys: ClassVar[tuple[str, ...]] = ("short_side", "long_side")
    short_side: int | tuple[int, int]
    long_side: int

    @classmethod
    def from_recipe(cls, config: DataConfig) -> Self:
        """As `Augmentation.from_recipe`."""
        return cls(config.short_side, config.long_side)

    def draw(self, rng: np.random.Generator, sample: Sample) -> int:
        """The short side in pixels."""
        return chosen_short_side(self.short_side, rng.random())

    def apply(self, sample: Sample, drawn: int) -> Sample:
        """The sample resized."""
        resized = prepare(sample.image, sample.boxes, drawn, self.long_side)
        x, y = sample.ratios
        return replace(
            resized, ratios=(x * resized.ratios[0], y * resized.ratios[1]), original_size=sample.original_size
        )


def chosen_short_side(short_side: int | tuple[int, int], uniform: float) -> int:
    """The short side that a number in [0, 1) picks: itself, or one of the integers low..high, both included."""
    if isinstance(short_side, int):
        return short_side
    low, high = short_side
    return low + int(uniform * (high - low + 1))
