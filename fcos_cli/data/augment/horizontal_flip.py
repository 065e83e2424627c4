"""Images mirrored left to right."""

from dataclasses import dataclass, replace
from typing import ClassVar, Self

import numpy as np

from fcos_cli.data.augment.augmentation import Augmentation
from fcos_cli.data.sample import Sample
from fcos_cli.recipe.schema import DataConfig


@dataclass(frozen=True)
class HorizontalFlip(Augmentation):
    """Mirrors with this probability."""

    name: ClassVar[str] = "horizontal_flip"
    keys: ClassVar[tuple[str, ...]] = ("flip",)
    probability: float

    @classmethod
    def from_recipe(cls, config: DataConfig) -> Self:
        """As `Augmentation.from_recipe`."""
        return cls(config.flip)

    def draw(self, rng: np.random.Generator, sample: Sample) -> bool:
        """Whether to mirror."""
        return rng.random() < self.probability

    def apply(self, sample: Sample, drawn: bool) -> Sample:
        """The sample, mirrored where so drawn."""
        if not drawn:
            return sample
        boxes = flip_boxes_horizontal(sample.boxes, sample.image.shape[1])
        return replace(sample, image=sample.image[:, ::-1], boxes=boxes)


def flip_boxes_horizontal(boxes: np.ndarray, width: float) -> np.ndarray:
    """xyxy boxes [B, 4] in an image `width` pixels wide, mirrored left to right."""
    return np.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], axis=1)
