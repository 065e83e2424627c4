"""RetinaNet's anchors on a data set: positive anchors of each box (FCOS paper, Table 1).

docs/method.md, Statistics of the assignment, has the rules.

An anchor belongs to the box that it has its largest IoU with, the first of several, and is positive from an IoU of 0.5.
The low-quality rule makes a box's best anchors positive too, all that tie, if their IoU is at least 0.4 ("0.4") or
whatever it is ("all"); such an anchor still belongs to the box that it overlaps most itself.

No array of all anchors by boxes exists. Two intervals of given lengths overlap the more, the nearer their centres are.
So of one shape's anchors the one nearest to a box's centre is the best, and those that reach some IoU lie in a
rectangle of cells, found in closed form. It is drawn in float64, a little too large; then the IoU itself decides.

The IoU is float32, operation by operation that of the authors' code. On val2017 float64 recalls the same boxes, but
ties change the counts of 166. np.round's half to even matters (half up: 86.75 instead of 86.82 %), and so does keeping
all that tie (only the first: 98.43 instead of 99.23 %).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from fcos_cli.stats.boxes import NetworkBoxes, Setting
from fcos_cli.stats.parallel import Columns, Step, map_parts

LowQuality = Literal["none", "0.4", "all"]
LOW_QUALITY: tuple[LowQuality, ...] = get_args(LowQuality)

POSITIVE, LOW = 0.5, 0.4
SIZE, OCTAVES, RATIOS = 4, 3, (0.5, 1.0, 2.0)
PAIRS_AT_ONCE = 1 << 18

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
Ints = NDArray[np.int64]


def match_anchors(
    boxes: NetworkBoxes, setting: Setting, *, workers: int = 1, step: Step | None = None
) -> dict[LowQuality, np.ndarray]:
    """Positive anchors that belong to each box, for each low-quality rule.

    Args:
        boxes: T boxes inside of their canvases; images without boxes are allowed.
        setting: its pyramid's strides and its convention count; ranges, location origin and radius do not.
        workers: processes; the result does not depend on it.
        step: told the number of images that are finished, now and then.

    Returns:
        int64 [T, P] for each rule, by level. A box of no area in float32 overlaps nothing and has no best anchor.
    """
    parts = list(map_parts(_match_part, boxes, (), setting, workers=workers, step=step))
    return {rule: np.concatenate([part[rule] for part in parts]) for rule in LOW_QUALITY}


def _match_part(boxes: NetworkBoxes, columns: Columns, setting: Setting) -> dict[LowQuality, np.ndarray]:
    return match_chunk(boxes, setting)


def match_chunk(boxes: NetworkBoxes, setting: Setting) -> dict[LowQuality, np.ndarray]:
    """`match_anchors` in one go: its memory grows by 7 kB a box. No image's counts depend on another's."""
    if not len(boxes.boxes):
        return {rule: np.zeros((0, len(setting.pyramid.levels)), np.int64) for rule in LOW_QUALITY}
    return dict(zip(LOW_QUALITY, _Matcher(_Anchors.of(setting), boxes).match(), strict=True))


def base_anchors(stride: int) -> Doubles:
    """float64 [9, 4] of the cell at the origin, corners in inclusive pixels, by ratio and then by octave.

    Detectron's generator: the sides of a ratio are rounded (half to even) at the stride's scale, and then enlarged.
    """
    ratios = np.array(RATIOS)
    widths = np.round(np.sqrt(stride * stride / ratios))
    sides = np.stack([widths, np.round(widths * ratios)], axis=1)
    scales = SIZE * 2 ** (np.arange(OCTAVES) / OCTAVES)
    half = 0.5 * ((sides[:, None] * scales[:, None]).reshape(-1, 2) - 1)
    centre = 0.5 * (stride - 1)
    return np.concatenate([centre - half, centre + half], axis=1)


@dataclass(frozen=True)
class _Anchors:
    """The K shapes of all levels.

    Attributes:
        corners: float32 [K, 4] at the origin, by the convention.
        extra: what a length is more than x1 - x0: a pixel, if corners are inclusive.
        sides: float64 [K, 2] of the continuous box, which is the same for both conventions.
        centres: float64 [K, 2], its centre at the origin.
        strides: int64 [K, 1].
        levels: int64 [K], positions in the pyramid.
    """

    corners: Floats
    extra: float
    sides: Doubles
    centres: Doubles
    strides: Ints
    levels: Ints

    @staticmethod
    def of(setting: Setting) -> "_Anchors":
        strides = setting.pyramid.strides
        low, high = np.split(np.concatenate([base_anchors(stride) for stride in strides]), 2, axis=1)
        extra = 1.0 if setting.convention == "paper" else 0.0
        shapes = len(low) // len(strides)
        return _Anchors(
            corners=np.concatenate([low, high + (1 - extra)], axis=1).astype(np.float32),
            extra=extra,
            sides=high + 1 - low,
            centres=(low + high + 1) / 2,
            strides=np.repeat(strides, shapes)[:, None],
            levels=np.repeat(np.arange(len(strides)), shapes),
        )


@dataclass(frozen=True)
class _Rectangles:
    """R rectangles of cells: int64 [R] box, ascending, and shape; int64 [R, 2] first cell and cells along x and y."""

    box: Ints
    shape: Ints
    first: Ints
    cells: Ints


class _Matcher:
    """Some images. Anchors are numbers: (image, shape, row, column) in a grid as large as the largest of all."""

    def __init__(self, anchors: _Anchors, boxes: NetworkBoxes) -> None:
        self.anchors, self.boxes, self.offsets = anchors, boxes.boxes, boxes.offsets
        x0, y0, x1, y1 = self.boxes.T
        self.area = self._length(x0, x1) * self._length(y0, y1)
        self.image = np.repeat(np.arange(len(boxes.padded)), np.diff(boxes.offsets))
        self.grids = -(-boxes.padded[:, None] // anchors.strides)
        columns, rows = self.grids.max(axis=(0, 1)).tolist()
        self.numbering = (len(boxes.padded), len(anchors.strides), rows, columns)
        # Float32 is off by 6e-8 of a coordinate; overlaps that an anchor's edge cuts short are longer than a pixel.
        self.slack = 1e-6 * (1024 + int(boxes.padded.max()))

    def match(self) -> tuple[np.ndarray, ...]:
        """int [T, P] for each rule, in the order of LOW_QUALITY."""
        rectangles = self._rectangles()
        bounds = np.searchsorted(rectangles.box, np.arange(len(self.boxes) + 1))
        pairs = _sums(rectangles.cells.prod(axis=1))[bounds]
        parts = [self._evaluate(rectangles, *bounds[[a, b]].tolist()) for a, b in _runs(pairs, PAIRS_AT_ONCE)]
        numbers, box, iou, best, faint = (np.concatenate(column) for column in zip(*parts, strict=True))

        order = np.argsort(numbers)
        starts = _starts(numbers[order])
        numbers, faint = numbers[order[starts]], _distinct(faint)
        owner, highest = _largest(box[order], iou[order], starts)
        good = highest >= POSITIVE
        fair = good | np.logical_or.reduceat(best[order], starts)
        place = np.searchsorted(numbers, faint)
        known = np.append(numbers, -1)[place] == faint
        every, rest = fair.copy(), faint[~known]
        every[place[known]] = True
        none, fairly, nearly = (self._count(owner[kept], numbers[kept]) for kept in (good, fair, every))
        return none, fairly, nearly + self._count(self._owners(rest), rest)

    def _rectangles(self) -> _Rectangles:
        """Anchors that may have an IoU of 0.4 with a box or, where no anchor has, that may be the box's best."""
        anchors, corners = self.anchors, self.boxes.astype(np.float64)[:, None]
        low, high = corners[..., :2], corners[..., 2:] + anchors.extra
        grids, stride = self.grids[self.image], anchors.strides
        touching = (high - low + anchors.sides) / 2
        ahead = (low + high) / 2 - anchors.centres
        nearest = np.clip(np.rint(ahead / stride), 0, grids - 1)
        overlap = np.minimum(np.minimum(high - low, anchors.sides), touching - np.abs(ahead - nearest * stride))
        intersection = np.maximum(overlap, 0).prod(axis=2)
        areas = (high - low).prod(axis=2) + anchors.sides.prod(axis=1)
        highest = (intersection / (areas - intersection)).max(axis=1, keepdims=True)
        iou = np.minimum(highest, LOW) / (1 + self.slack)
        needed = areas * iou / (1 + iou)
        box, shape = np.nonzero((intersection >= needed) & (needed > 0))

        # Where the other axis overlaps as much as it can, this one must still overlap by this much.
        least = needed[box, shape, None] / overlap[box, shape, ::-1]
        distance = touching[box, shape] - least + self.slack
        ahead, stride = ahead[box, shape], stride[shape]
        first = np.maximum(np.ceil((ahead - distance) / stride), 0).astype(np.int64)
        last = np.minimum(np.floor((ahead + distance) / stride), grids[box, shape] - 1).astype(np.int64)
        return _Rectangles(box, shape, first, last + 1 - first)

    def _evaluate(self, rectangles: _Rectangles, begin: int, end: int) -> tuple[np.ndarray, ...]:
        """Of whole boxes, the pairs of IoU >= 0.4: anchor, box, IoU, whether the box has no better; then the faint
        anchors, those that are best for boxes without such a pair."""
        box, shape = rectangles.box[begin:end], rectangles.shape[begin:end]
        first, (columns, rows) = rectangles.first[begin:end], rectangles.cells[begin:end].T
        across, i = _ragged(columns)
        down, j = _ragged(rows)
        i, j = i + first[across, 0], j + first[down, 1]
        width, overlap_x = self._along(0, i, shape[across], box[across])
        height, overlap_y = self._along(1, j, shape[down], box[down])

        y, place = _ragged(columns[down])
        where = down[y]
        x = _sums(columns)[where] + place
        owner = box[where]
        iou = _iou(overlap_x[x] * overlap_y[y], self.area[owner], width[x] * height[y])
        best = iou == _highest(iou, _starts(owner))
        near, far = np.flatnonzero(iou >= LOW), np.flatnonzero(best & (iou < LOW) & (iou > 0))
        numbers, faint = (
            np.ravel_multi_index((self.image[owner[at]], shape[where[at]], j[y[at]], i[x[at]]), self.numbering)
            for at in (near, far)
        )
        return numbers, owner[near], iou[near], best[near], _distinct(faint)

    def _owners(self, numbers: Ints) -> Ints:
        """The box [A] of its image that each anchor [A], ascending, overlaps most: each compared with each."""
        owners = np.zeros(len(numbers), np.int64)
        image, shape, row, column = np.unravel_index(numbers, self.numbering)
        bounds = np.searchsorted(image, np.arange(len(self.offsets))).tolist()
        for (first, last), anchors in zip(pairwise(self.offsets.tolist()), pairwise(bounds), strict=True):
            rivals, at_once = slice(first, last), max(1, PAIRS_AT_ONCE // max(1, last - first))
            for begin in range(*anchors, at_once):
                some = slice(begin, min(begin + at_once, anchors[1]))
                width, overlap_x = self._along(0, column[some, None], shape[some, None], rivals)
                height, overlap_y = self._along(1, row[some, None], shape[some, None], rivals)
                iou = _iou(overlap_x * overlap_y, self.area[rivals], width * height)
                owners[some] = first + iou.argmax(axis=1)
        return owners

    def _count(self, owner: Ints, numbers: Ints) -> Ints:
        level = self.anchors.levels[np.unravel_index(numbers, self.numbering)[1]]
        shape = len(self.boxes), int(self.anchors.levels[-1]) + 1
        return np.bincount(owner * shape[1] + level, minlength=shape[0] * shape[1]).reshape(shape)

    def _along(self, axis: int, cell: Ints, shape: Ints, box: Ints | slice) -> tuple[Floats, Floats]:
        """Lengths of anchors along an axis, and of their overlaps with boxes; rounded as in the authors' code."""
        shift = (cell * self.anchors.strides[shape, 0]).astype(np.float32)
        low, high = (self.anchors.corners[shape, corner] + shift for corner in (axis, axis + 2))
        inner = np.maximum(low, self.boxes[box, axis]), np.minimum(high, self.boxes[box, axis + 2])
        return self._length(low, high), self._length(*inner)

    def _length(self, low: Floats, high: Floats) -> Floats:
        return np.maximum(high - low + np.float32(self.anchors.extra), np.float32(0))


def _iou(intersection: Floats, area: Floats, other: Floats) -> Floats:
    return intersection / (area + other - intersection)


def _runs(offsets: Ints, limit: int) -> Iterator[tuple[int, int]]:
    """(first, one past the last) of items whose sizes add up to at most `limit`, or of one; offsets [items + 1]."""
    begin, items = 0, len(offsets) - 1
    while begin < items:
        fits = int(np.searchsorted(offsets, offsets[begin] + limit, side="right")) - 1
        yield begin, max(fits, begin + 1)
        begin = max(fits, begin + 1)


def _sums(sizes: Ints) -> Ints:
    return np.concatenate([[0], np.cumsum(sizes)])


def _ragged(counts: Ints) -> tuple[Ints, Ints]:
    """For items that are repeated `counts` times: which item, and which of its repetitions."""
    item = np.repeat(np.arange(len(counts)), counts)
    return item, np.arange(len(item)) - _sums(counts)[item]


def _starts(numbers: Ints) -> Ints:
    """Where runs of equal numbers >= 0 begin."""
    return np.flatnonzero(np.diff(numbers, prepend=-1))


def _distinct(numbers: Ints) -> Ints:
    """The different ones of numbers >= 0, ascending; np.unique is slower by far."""
    ordered = np.sort(numbers)
    return ordered[_starts(ordered)]


def _highest(iou: Floats, starts: Ints) -> Floats:
    """Each run's largest, at every place of the run."""
    return np.repeat(np.maximum.reduceat(iou, starts), np.diff(starts, append=len(iou)))


def _largest(box: Ints, iou: Floats, starts: Ints) -> tuple[Ints, Floats]:
    """Of each run: the lowest box of the largest IoU, and that IoU."""
    highest = _highest(iou, starts)
    tied = np.where(iou == highest, box, np.iinfo(np.int64).max)
    return np.minimum.reduceat(tied, starts), highest[starts]
