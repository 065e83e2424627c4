"""Images mirrored top to bottom."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from fcos_cli.data.augment.augmentation import Augmentation
from fcos_cli.data.sample import Sample
from fcos_cli.recipe.schema import DataConfig


@dataclass(frozen=True)
class VerticalFlip(Augmentation):
    """Mirrors with this probability."""

    name: ClassVar[str] = "vertical_flip"
    keys: ClassVar[tuple[str, ...]] = ("vertical_flip",)
    probability: float

    @classmethod
    def from_recipe(cls, config: DataConfig) -> Self:
        """As `Augmentation.from_recipe`."""
        return cls(config.vertical_flip)

    def draw(self, rng: np.random.Generator, sample: Sample) -> bool:
        """Whether to mirror."""
        return rng.random() < self.probability

    def apply(self, sample: Sample, drawn: bool) -> Sample:
        """The sample, mirrored where so drawn."""
        if not drawn:
            return sample
        boxes = flip_boxes_vertical(sample.boxes, sample.image.shape[0])
        return replace(sample, image=sample.image[::-1], boxes=boxes)


def flip_boxes_vertical(boxes: np.ndarray, height: float) -> np.ndarray:
    """xyxy boxes [B, 4] in an image `height` pixels high, mirrored top to bottom."""
    return np.stack([boxes[:, 0], height - boxes[:, 3], boxes[:, 2], height - boxes[:, 1]], axis=1)
