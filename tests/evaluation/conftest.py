"""Ground truth for the evaluation tests, built without the toolkit's readers."""

import json
from pathlib import Path

import numpy as np
import pytest

from fcos_cli.data.records import Categories, DetectionData, group_by_image
from fcos_cli.data.sources.source import ImageSource


class Unreadable(ImageSource):
    def read(self, data, index):
        raise AssertionError("an evaluation reads no pixels")


@pytest.fixture(scope="session")
def make_data():
    """Function: images [(id, w, h)], annotations [(image, category, (x, y, w, h), crowd, area)], categories -> data."""

    def make(images, annotations, categories):
        cats = Categories.from_pairs(categories)
        position = {image[0]: i for i, image in enumerate(images)}
        rows = np.array([position[a[0]] for a in annotations], dtype=np.int64)
        order, offsets = group_by_image(rows, len(images))
        boxes = np.array([a[2] for a in annotations], dtype=np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return DetectionData(
            name="test set",
            categories=cats,
            image_ids=np.array([image[0] for image in images], dtype=np.int64),
            file_names=[f"{image[0]}.jpg" for image in images],
            sizes=np.array([image[1:] for image in images], dtype=np.int32).reshape(-1, 2),
            boxes=boxes[order],
            labels=np.array([cats.label_of[a[1]] for a in annotations], dtype=np.int32)[order],
            crowd=np.array([a[3] for a in annotations], dtype=bool)[order],
            areas=np.array([a[4] for a in annotations], dtype=np.float64)[order],
            box_ids=np.arange(len(annotations), dtype=np.int64)[order],
            offsets=offsets,
            root=Path("."),
            source=Unreadable(),
        )

    return make


@pytest.fixture(scope="session")
def coco_truth(make_data):
    """Function: path of a COCO annotation file -> data."""

    def read(path):
        content = json.loads(Path(path).read_text())
        return make_data(
            [(i["id"], i["width"], i["height"]) for i in content["images"]],
            [(a["image_id"], a["category_id"], a["bbox"], a["iscrowd"], a["area"]) for a in content["annotations"]],
            [(c["id"], c["name"]) for c in content["categories"]],
        )

    return read
