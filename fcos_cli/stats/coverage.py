"""Best possible recall and ambiguity of a data set: the paper's Tables 1 and 2 (arXiv 1904.01355, section 3.2 and 4.1).

A box is recalled where at least one location is assigned to it, after the level rule and the smallest-area rule. A
location is ambiguous where more than one box remains after the level rule; its classes collide where those boxes have
more than one label. Both are shares of all positive locations. The cells a box may have come from `fcos_kernels.paint`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import isinf
from typing import Any

import numpy as np

from fcos_cli.data.records import DetectionData
from fcos_cli.stats.boxes import NetworkBoxes, Setting, network_boxes
from fcos_kernels.paint import claims

IMAGES_PER_STEP = 500
SMALL, LARGE = 32**2, 96**2  # square pixels of the original image, COCO's
SIDES = (0, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)

Row = dict[str, Any]
Step = Callable[[int], None]


@dataclass(frozen=True)
class Coverage:
    """What the locations of a pyramid can learn of a data set.

    Attributes:
        setting: what it was computed with.
        images: all of them, also those without boxes.
        dropped: what was left out and why, with counts.
        recalled: bool [T], by box.
        rows: int64 [T], rows of the data set.
        recall: figures of Table 1: images, boxes, recalled, bpr (percent), by_size, by_level, by_class, by_side.
        ambiguity: figures of Table 2: positives, ambiguous, ambiguous_percent, cross_class, cross_class_percent,
            by_level.
    """

    setting: Setting
    images: int
    dropped: dict[str, int]
    recalled: np.ndarray
    rows: np.ndarray
    recall: Row
    ambiguity: Row

    @property
    def missed(self) -> np.ndarray:
        """int64, rows of the data set whose boxes no location learns."""
        return self.rows[~self.recalled]


@dataclass(frozen=True)
class Painting:
    """Counts of a painted data set of T boxes on P levels.

    Attributes:
        won: bool [T, P], whether a box has a location on a level.
        positives, ambiguous, cross_class: int64 [P], locations.
    """

    won: np.ndarray
    positives: np.ndarray
    ambiguous: np.ndarray
    cross_class: np.ndarray


def cover(data: DetectionData, setting: Setting, step: Step | None = None) -> Coverage:
    """Assigns every location of every image, as training would, and counts.

    Args:
        step: told the number of images that are finished, now and then.

    Raises:
        DataError: the data set has no boxes that could be learnt.
    """
    boxes = network_boxes(data, setting)
    painting = paint_all(boxes, data.labels[boxes.rows], setting, step)
    recalled = np.asarray(painting.won.any(axis=1))
    return Coverage(
        setting=setting,
        images=len(data),
        dropped=boxes.dropped,
        recalled=recalled,
        rows=boxes.rows,
        recall=_recall(data, boxes, recalled, painting, setting),
        ambiguity=_ambiguity(painting, setting),
    )


def paint_all(boxes: NetworkBoxes, labels: np.ndarray, setting: Setting, step: Step | None = None) -> Painting:
    """Paints image by image, the largest box first, on canvases that are used again. labels: int [T]."""
    pyramid = setting.pyramid
    largest = boxes.padded.max(axis=0).tolist()
    grids = pyramid.grids(largest[1], largest[0])
    canvases = [_Canvas(grid) for grid in grids]
    won = np.zeros((len(boxes.boxes), len(grids)), dtype=bool)
    totals = np.zeros((len(grids), 3), dtype=np.int64)
    label_of = labels.tolist()

    for begin in range(0, len(boxes.padded), IMAGES_PER_STEP):
        end = min(begin + IMAGES_PER_STEP, len(boxes.padded))
        first, last = boxes.offsets[[begin, end]].tolist()
        here = None
        for image, level, row, pieces in claims(
            boxes.boxes[first:last],
            boxes.offsets[begin : end + 1] - first,
            grids=grids,
            strides=pyramid.strides,
            starts=pyramid.starts,
            ranges=pyramid.ranges,
            radius=setting.radius,
            inclusive=setting.inclusive,
        ):
            if image != here:
                _collect(canvases, won, totals)
                here = image
                width, height = boxes.padded[begin + image].tolist()
                for canvas, grid in zip(canvases, pyramid.grids(height, width), strict=True):
                    canvas.resize(grid)
            canvases[level].add(first + row, label_of[first + row], pieces)
        _collect(canvases, won, totals)
        if step is not None:
            step(end - begin)
    return Painting(won, *totals.T)


def _collect(canvases: list["_Canvas"], won: np.ndarray, totals: np.ndarray) -> None:
    for level, canvas in enumerate(canvases):
        if canvas.touched:
            totals[level] += canvas.collect(won[:, level])


class _Canvas:
    """One level of one image: the box and its label on top of each cell, and what lay below."""

    def __init__(self, largest: tuple[int, int]) -> None:
        self.full = [np.full(largest, -1, np.int32) for _ in range(2)] + [np.zeros(largest, bool) for _ in range(2)]
        self.resize(largest)

    def resize(self, grid: tuple[int, int]) -> None:
        """Makes a clean canvas [rows, columns] the size of an image's grid: pieces that pass its end are cut."""
        rows, columns = grid
        self.owner, self.label, self.ambiguous, self.cross_class = (part[:rows, :columns] for part in self.full)
        self.touched = False
        self.top, self.bottom = rows, 0

    def add(self, row: int, label: int, pieces: list[tuple[slice, slice]]) -> None:
        """Paints a box over those before it.

        Two of a cell's boxes have different labels exactly where one of them differs from the box painted just before.
        """
        self.touched = True
        for piece in pieces:
            self.top, self.bottom = min(self.top, piece[0].start), max(self.bottom, piece[0].stop)
            below = self.label[piece]
            taken = below >= 0
            self.ambiguous[piece] |= taken
            self.cross_class[piece] |= taken & (below != label)
            below[...] = label
            self.owner[piece] = row

    def collect(self, won: np.ndarray) -> tuple[int, int, int]:
        """Positive, ambiguous and class-ambiguous cells; marks in `won` the boxes that kept one; wipes the canvas."""
        band = slice(self.top, self.bottom)
        owner, ambiguous, cross_class = self.owner[band], self.ambiguous[band], self.cross_class[band]
        owners = owner[owner >= 0]
        won[owners] = True
        counts = owners.size, int(np.count_nonzero(ambiguous)), int(np.count_nonzero(cross_class))
        owner.fill(-1)
        self.label[band].fill(-1)
        ambiguous.fill(False)
        cross_class.fill(False)
        self.touched = False
        self.top, self.bottom = len(self.owner), 0
        return counts


def _recall(
    data: DetectionData, boxes: NetworkBoxes, recalled: np.ndarray, painting: Painting, setting: Setting
) -> Row:
    labels, areas = data.labels[boxes.rows], data.areas[boxes.rows]
    corners = data.boxes[boxes.rows]
    sides = np.sqrt((corners[:, 2:] - corners[:, :2]).prod(axis=1))
    found = np.bincount(labels, recalled, minlength=len(data.categories)).astype(int).tolist()
    counts = np.bincount(labels, minlength=len(data.categories)).tolist()
    sizes = (
        ("small", areas < SMALL),
        ("medium", (areas >= SMALL) & (areas <= LARGE)),
        ("large", areas > LARGE),
    )
    on_level = painting.won.sum(axis=0).tolist()
    return {
        "images": len(data),
        **_share(len(recalled), int(recalled.sum())),
        "by_size": [{"name": name, **_share(int(m.sum()), int(recalled[m].sum()))} for name, m in sizes],
        "by_level": [
            {**level, "recalled": count, "percent": _percent(count, len(recalled)), "positives": positives}
            for level, count, positives in zip(_levels(setting), on_level, painting.positives.tolist(), strict=True)
        ],
        "by_class": [
            {"name": name, **_share(count, hits)}
            for name, count, hits in zip(data.categories.names, counts, found, strict=True)
        ],
        "by_side": _by_side(sides, recalled),
    }


def _by_side(sides: np.ndarray, recalled: np.ndarray) -> list[Row]:
    place = np.searchsorted(SIDES, sides, side="right") - 1
    counts = np.bincount(place, minlength=len(SIDES)).tolist()
    found = np.bincount(place, recalled, minlength=len(SIDES)).astype(int).tolist()
    uppers = [*SIDES[1:], None]
    return [
        {"lower": lower, "upper": upper, **_share(count, hits)}
        for lower, upper, count, hits in zip(SIDES, uppers, counts, found, strict=True)
    ]


def _ambiguity(painting: Painting, setting: Setting) -> Row:
    columns = (painting.positives.tolist(), painting.ambiguous.tolist(), painting.cross_class.tolist())
    totals = [sum(column) for column in columns]
    rows = zip(_levels(setting), *columns, strict=True)
    return {
        **_collisions(*totals),
        "by_level": [{**level, **_collisions(*counts)} for level, *counts in rows],
    }


def _levels(setting: Setting) -> list[Row]:
    """Name, stride and range of each level; JSON knows no infinity, so no end is None."""
    return [
        {"name": v.name, "stride": v.stride, "lower": v.lower, "upper": None if isinf(v.upper) else v.upper}
        for v in setting.pyramid.levels
    ]


def _share(boxes: int, recalled: int) -> Row:
    return {"boxes": boxes, "recalled": recalled, "bpr": _percent(recalled, boxes)}


def _collisions(positives: int, ambiguous: int, cross_class: int) -> Row:
    return {
        "positives": positives,
        "ambiguous": ambiguous,
        "ambiguous_percent": _percent(ambiguous, positives),
        "cross_class": cross_class,
        "cross_class_percent": _percent(cross_class, positives),
    }


def _percent(part: int, whole: int) -> float | None:
    return 100 * part / whole if whole else None
