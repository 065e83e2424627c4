"""A detection data set in memory: columns of arrays, never a dictionary per box. Imports no torch."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from fcos_cli.data.findings import Finding
from fcos_cli.data.sources.source import ImageSource
from fcos_cli.errors import DataError


@dataclass(frozen=True)
class Categories:
    """The classes: the data set's own ids (gaps allowed, ascending) and names; a label is the position in them."""

    ids: tuple[int, ...]
    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if len(self.ids) != len(self.names):
            raise ValueError(f"{len(self.ids)} category ids but {len(self.names)} names")
        if list(self.ids) != sorted(set(self.ids)):
            raise ValueError("category ids must be ascending and unique")

    def __len__(self) -> int:
        return len(self.ids)

    @cached_property
    def label_of(self) -> dict[int, int]:
        """Category id -> contiguous label 0..C-1."""
        return {category: label for label, category in enumerate(self.ids)}

    @staticmethod
    def from_pairs(pairs: Iterable[tuple[int, str]]) -> "Categories":
        """Categories from (id, name) pairs in any order."""
        ordered = sorted(pairs)
        return Categories(tuple(i for i, _ in ordered), tuple(n for _, n in ordered))


@dataclass(frozen=True)
class DetectionData:
    """One split of a data set.

    N images, B boxes; the boxes of image i are rows offsets[i]:offsets[i + 1].

    Attributes:
        name: what to call it in logs and tables, such as "coco val".
        categories: ids and names of the classes.
        image_ids: int64 [N], the data set's own ids (or stable ones made for it).
        file_names: N names relative to `root`.
        sizes: int32 [N, 2], width and height in pixels, upright; 0 where the data set does not say.
        boxes: float64 [B, 4] xyxy in pixels of the upright image, x1 = x + w.
        labels: int32 [B], contiguous 0..C-1.
        crowd: bool [B], crowd or ignore regions.
        areas: float64 [B], the annotated area in square pixels (of the segment, where there is one).
        box_ids: int64 [B], annotation ids.
        offsets: int64 [N + 1].
        root: folder of the images.
        source: where the pixels come from.
        annotated: False for a bare folder of images.
        findings: what was left out on reading or read otherwise than written, for the user to see.
    """

    name: str
    categories: Categories
    image_ids: np.ndarray
    file_names: Sequence[str]
    sizes: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    areas: np.ndarray
    box_ids: np.ndarray
    offsets: np.ndarray
    root: Path
    source: ImageSource
    annotated: bool = True
    findings: tuple[Finding, ...] = ()

    @staticmethod
    def unannotated(
        name: str, image_ids: np.ndarray, file_names: Sequence[str], sizes: np.ndarray, root: Path, source: ImageSource
    ) -> "DetectionData":
        """Images without annotations and without classes."""
        return DetectionData(
            name=name,
            categories=Categories((), ()),
            image_ids=image_ids,
            file_names=file_names,
            sizes=sizes,
            boxes=np.zeros((0, 4)),
            labels=np.zeros(0, dtype=np.int32),
            crowd=np.zeros(0, dtype=bool),
            areas=np.zeros(0),
            box_ids=np.zeros(0, dtype=np.int64),
            offsets=np.zeros(len(file_names) + 1, dtype=np.int64),
            root=root,
            source=source,
            annotated=False,
        )

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def dropped(self) -> dict[str, int]:
        """Boxes that were left out on reading, by reason."""
        return {finding.kind.text: finding.count for finding in self.findings if finding.kind.boxes}

    def rows(self, index: int) -> slice:
        """Rows of the box columns that belong to image `index`."""
        return slice(int(self.offsets[index]), int(self.offsets[index + 1]))

    def path(self, index: int) -> Path:
        return self.root / self.file_names[index]

    def read(self, index: int) -> np.ndarray:
        """Pixels of image `index`: uint8 [H, W, 3] RGB, upright.

        Raises:
            DataError: the image is missing or broken.
        """
        return self.source.read(self, index)

    def subset(self, indices: Sequence[int] | np.ndarray) -> "DetectionData":
        """The same data set with only these images, in this order."""
        chosen = np.asarray(indices, dtype=np.int64)
        counts = np.diff(self.offsets)[chosen]
        offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
        rows = np.repeat(self.offsets[:-1][chosen] - offsets[:-1], counts) + np.arange(offsets[-1])
        return replace(
            self,
            image_ids=self.image_ids[chosen],
            file_names=[self.file_names[i] for i in chosen],
            sizes=self.sizes[chosen],
            boxes=self.boxes[rows],
            labels=self.labels[rows],
            crowd=self.crowd[rows],
            areas=self.areas[rows],
            box_ids=self.box_ids[rows],
            offsets=offsets,
        )


def group_by_image(image_index: np.ndarray, images: int) -> tuple[np.ndarray, np.ndarray]:
    """Stable order that sorts rows by image, and the offsets [N + 1] of each image in it."""
    if image_index.size and (image_index.min() < 0 or image_index.max() >= images):
        raise DataError("a box belongs to an image that the data set does not list")
    order = np.argsort(image_index, kind="stable")
    offsets = np.concatenate([[0], np.cumsum(np.bincount(image_index, minlength=images))]).astype(np.int64)
    return order, offsets
