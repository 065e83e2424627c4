"""The built-in data set: coloured shapes on textured grounds, made from a seed, image by image, nothing on disk.

The annotations of a whole split are laid out at once (`layout.py`, vectorised over the images);
the pixels of an image are drawn only when it is read. An image depends on (seed, split, index) alone: only uniform
doubles of PCG64 are used, a stream that NumPy keeps stable over versions and platforms.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.data.shapes.draw import draw_image
from fcos_cli.data.shapes.layout import SHAPES, Layout, make_layout
from fcos_cli.data.sources.source import Images, ImageSource
from fcos_cli.errors import DataError

SPLITS = {"train": 4000, "val": 300, "test": 500}
CATEGORIES = Categories.from_pairs((shape.category_id, shape.name) for shape in SHAPES)


@dataclass(frozen=True)
class DrawnShapes(ImageSource):
    """Draws the images of one split; follows a subset by the image ids, which are index + 1."""

    layout: Layout
    key: tuple[int, int]

    def read(self, data: Images, index: int) -> np.ndarray:
        """As `ImageSource.read`."""
        image = int(data.image_ids[index]) - 1
        return draw_image(self.layout, image, (*self.key, image))


def shapes_data(split: str = "train", *, count: int | None = None, seed: int = 0) -> DetectionData:
    """One split of the built-in data set: 7 classes, images of 144 to 176 pixels a side, 5 % of them empty.

    Args:
        split: "train" (4,000 images), "val" (300) or "test" (500); no image is shared between them.
        count: how many images; the first ones do not depend on it.
        seed: another seed is another data set.

    Raises:
        DataError: a split that does not exist, a count below 1, a negative seed.
    """
    if split not in SPLITS:
        raise DataError(f"shapes has no split {split!r}", f"use one of: {', '.join(SPLITS)}")
    if count is not None and count < 1:
        raise DataError(f"shapes cannot have {count} images", "ask for at least 1")
    if seed < 0:
        raise DataError(f"the seed of shapes cannot be negative, and {seed} is", "use 0 or more")
    images = SPLITS[split] if count is None else count
    key = (seed, list(SPLITS).index(split))
    layout = make_layout(images, key)
    sides = layout.boxes[:, 2:] - layout.boxes[:, :2]
    return DetectionData(
        name=f"shapes {split}",
        categories=CATEGORIES,
        image_ids=np.arange(1, images + 1, dtype=np.int64),
        file_names=[f"{split}/{index + 1:06d}.png" for index in range(images)],
        sizes=layout.sizes,
        boxes=layout.boxes,
        labels=layout.labels,
        crowd=np.zeros(len(layout.labels), dtype=bool),
        areas=sides[:, 0] * sides[:, 1],
        box_ids=np.arange(1, len(layout.labels) + 1, dtype=np.int64),
        offsets=layout.offsets,
        root=Path("shapes"),
        source=DrawnShapes(layout, key),
    )
