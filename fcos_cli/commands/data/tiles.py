"""Images of a data set with their boxes, as tiles of a contact sheet: whole images, or the smallest boxes near by."""

import numpy as np

from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError
from fcos_cli.report.draw import Tile

AROUND, LEAST_AROUND = 3.0, 32.0
"""What is shown around a small box: so many times its longer side on each side, and so many pixels at least."""


def class_label(data: DetectionData, name: str) -> int:
    """The label of a class, by its name in any case.

    Raises:
        DataError: there is no such class.
    """
    names = list(data.categories.names)
    fitting = [names.index(name)] if name in names else [i for i, n in enumerate(names) if n.lower() == name.lower()]
    if len(fitting) != 1:
        raise DataError(f"{data.name} has no class {name}", f"its classes: {', '.join(names)}")
    return fitting[0]


def names_shown(data: DetectionData) -> list[str]:
    """Names for the labels of `image_tile` and `box_tile`: the classes, then the classes as crowd or ignore regions."""
    return [*data.categories.names, *(f"{name} (ignored)" for name in data.categories.names)]


def shown_rows(data: DetectionData, label: int | None = None) -> np.ndarray:
    """Rows of the boxes that are shown: all, or those of one class."""
    return np.arange(len(data.labels)) if label is None else np.flatnonzero(data.labels == label)


def random_images(data: DetectionData, rows: np.ndarray, count: int, seed: int) -> list[int]:
    """So many images, of those that have one of these boxes; of all, where there are no boxes at all."""
    images = np.unique(image_of_rows(data)[rows]) if len(data.boxes) else np.arange(len(data))
    return np.random.default_rng(seed).permutation(images)[:count].tolist()


def image_of_rows(data: DetectionData) -> np.ndarray:
    """int64 [B], the image of each box."""
    return np.repeat(np.arange(len(data)), np.diff(data.offsets))


def smallest_boxes(data: DetectionData, rows: np.ndarray, count: int) -> list[int]:
    """Rows of the boxes with the least area, the smallest first; crowd is none."""
    boxes = data.boxes[rows]
    areas = np.where(data.crowd[rows], np.inf, (boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    order = np.argsort(areas, kind="stable")
    return rows[order[np.isfinite(areas[order])]][:count].tolist()


def image_tile(data: DetectionData, index: int, rows: np.ndarray, title: str = "") -> Tile:
    """A whole image with those of its boxes that are among `rows`."""
    own = np.arange(data.offsets[index], data.offsets[index + 1])
    own = own[np.isin(own, rows)]
    return Tile(data.read(index), data.boxes[own], _labels(data, own), title=title or data.file_names[index])


def box_tile(data: DetectionData, row: int, rows: np.ndarray) -> Tile:
    """One box from near by, with the others of `rows` around it."""
    index = int(np.searchsorted(data.offsets, row, side="right")) - 1
    tile = image_tile(data, index, rows)
    x0, y0, x1, y1 = data.boxes[row]
    around = max(AROUND * max(x1 - x0, y1 - y0), LEAST_AROUND)
    height, width = tile.pixels.shape[:2]
    left, top = (int(max(0.0, min(start - around, side - 1))) for start, side in ((x0, width), (y0, height)))
    right, bottom = (
        int(np.clip(end + around, start + 1, side)) for end, start, side in ((x1, left, width), (y1, top, height))
    )
    part = tile.pixels[top:bottom, left:right]
    boxes = tile.boxes - [left, top, left, top]
    met = (boxes[:, 2:] > 0).all(axis=1) & (boxes[:, :2] < [right - left, bottom - top]).all(axis=1)
    size = f"{x1 - x0:.3g} x {y1 - y0:.3g}"
    return Tile(part, boxes[met], tile.labels[met], title=f"{size}, {data.file_names[index]}")


def _labels(data: DetectionData, rows: np.ndarray) -> np.ndarray:
    return data.labels[rows] + len(data.categories) * data.crowd[rows]
