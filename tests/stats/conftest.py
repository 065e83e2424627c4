"""Small data sets for the statistics, built without the toolkit's readers."""

from pathlib import Path

import numpy as np
import pytest

from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.data.sources.source import ImageSource


class Unreadable(ImageSource):
    def read(self, data, index):
        raise AssertionError("statistics read no pixels")


@pytest.fixture(scope="session")
def make_data():
    """Function: [(width, height, [(label, x0, y0, x1, y1[, crowd]), ...]), ...] -> data with that many classes."""

    def make(images, classes=3, **changes):
        rows = [row for image in images for row in image[2]]
        boxes = np.array([row[1:5] for row in rows], dtype=np.float64).reshape(-1, 4)
        fields = {
            "name": "test set",
            "categories": Categories(tuple(range(10, 10 + classes)), tuple(f"class {i}" for i in range(classes))),
            "image_ids": np.arange(100, 100 + len(images), dtype=np.int64),
            "file_names": [f"{i}.jpg" for i in range(len(images))],
            "sizes": np.array([image[:2] for image in images], dtype=np.int32).reshape(-1, 2),
            "boxes": boxes,
            "labels": np.array([row[0] for row in rows], dtype=np.int32),
            "crowd": np.array([len(row) > 5 and row[5] for row in rows], dtype=bool),
            "areas": (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]),
            "box_ids": np.arange(1, len(rows) + 1, dtype=np.int64),
            "offsets": np.cumsum([0, *(len(image[2]) for image in images)]).astype(np.int64),
            "root": Path("."),
            "source": Unreadable(),
        }
        return DetectionData(**{**fields, **changes})

    return make
