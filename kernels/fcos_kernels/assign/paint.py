"""The assignment of locations to boxes, painted: NumPy only, linear in boxes and locations, no [L, G] array.

Location (i, j) of a level with stride s lies at (x, y) = (start + i s, start + j s). With l = x - x0, t = y - y0,
r = x1 - x, b = y1 - y (FCOS, arXiv 1904.01355, section 3; docs/method.md, Assignment), a box may have the location if

1. min(l, t, r, b) > 0;
2. with a radius R > 0: the same holds for the square of half side R s around the box's centre, cut to the box;
3. lower <= max(l, t, r, b) <= upper, or strictly so where the ends are exclusive.

Each condition bounds x and y separately: 1, 2 and the upper end hold in a rectangle of cells, and the lower end fails
in another. So a box may have a rectangle minus a rectangle. With the boxes in order, from the largest area to the
smallest and equal areas from the last row to the first, a location belongs to the last box that may have it.

All comparisons are those of the plain float32 formula, location by location: x - x0 rounded to float32 is monotone in
x, so every bound is a cell index found from an estimate and then moved until the formula itself agrees.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Grid = tuple[int, int]
Range = tuple[float, float]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Painted = tuple[NDArray[np.int32], NDArray[np.int32] | None]

CELLS_AT_ONCE = 1 << 21


class Claims(NamedTuple):
    """Rectangles of cells that boxes may have: K of them, none empty, those of a box disjoint, in painting order.

    Cells are numbered image by image, level by level, row-major, each image by its own grids.

    row: int64 [K], the box.
    level: int64 [K].
    first: int64 [K], number of the cell in the corner.
    height, width: int64 [K], rows and columns of cells.
    pitch: int64 [K], columns of the grid.
    cells: how many there are in all images.
    """

    row: Ints
    level: Ints
    first: Ints
    height: Ints
    width: Ints
    pitch: Ints
    cells: int

    def blocks(self) -> Iterator[tuple[Ints, Ints]]:
        """(cell, claim) int64 [M] of every cell of every claim, a bounded number at a time (or one claim's)."""
        ends = np.cumsum(self.height * self.width)
        begin = 0
        while begin < len(ends):
            before = int(ends[begin - 1]) if begin else 0
            end = max(begin + 1, int(np.searchsorted(ends, before + CELLS_AT_ONCE, side="right")))
            yield self._expand(begin, end)
            begin = end

    def _expand(self, begin: int, end: int) -> tuple[Ints, Ints]:
        # claim -> its rows of cells -> their cells; a cell is the start of its row and its place in it
        claim = np.repeat(np.arange(begin, end), self.height[begin:end])
        heights = self.height[begin:end]
        line = np.arange(len(claim)) - np.repeat(np.cumsum(heights) - heights, heights)
        start, width = self.first[claim] + line * self.pitch[claim], self.width[claim]
        shift = start - (np.cumsum(width) - width)
        cell = np.arange(int(width.sum())) + np.repeat(shift, width)
        return cell, np.repeat(claim, width)

    def owners(self) -> NDArray[np.int32]:
        """int32 [cells], the claim that is painted last on each cell; -1 where there is none."""
        owner = np.full(self.cells, -1, np.int32)
        for cell, claim in self.blocks():
            np.maximum.at(owner, cell, claim.astype(np.int32))
        return owner


def paint(
    boxes: Floats,
    offsets: Ints,
    *,
    grids: Sequence[Grid],
    strides: Sequence[int],
    starts: Sequence[int],
    ranges: Sequence[Range],
    radius: float = 0.0,
    inclusive: bool = True,
    ignore: Bools | None = None,
    count_candidates: bool = False,
) -> Painted:
    """Which box each location of a batch learns.

    Args:
        boxes: float32 [T, 4] x0, y0, x1, y1 in input pixels, image after image.
        offsets: int64 [N + 1]; image n owns the rows offsets[n] .. offsets[n + 1].
        grids: (rows, columns) of each level.
        strides: pixels between the locations of each level.
        starts: pixel coordinate of each level's first location, along both axes.
        ranges: (lower, upper) of max(l, t, r, b) in pixels for each level; inf is allowed.
        radius: half side of the centre square in strides; 0 is off.
        inclusive: whether a range includes its ends.
        ignore: bool [T], boxes (crowds) that never become positive.
        count_candidates: also count the boxes left after rules 1-3.

    Returns:
        index int32 [N, L]: row of `boxes`, -1 background, -2 inside an ignored box and inside no other; levels in
        order, row-major. candidates int32 [N, L], or None. Boxes with a side <= 0 or a coordinate that is not finite
        never match.

    Raises:
        TypeError: boxes are not float32 [T, 4].
    """
    if boxes.dtype != np.float32 or boxes.ndim != 2 or boxes.shape[1] != 4:
        raise TypeError(f"boxes must be float32 [T, 4], not {boxes.dtype} {list(boxes.shape)}")
    images, locations = len(offsets) - 1, sum(rows * columns for rows, columns in grids)
    index = np.full((images, locations), -1, np.int32)
    candidates = np.zeros_like(index) if count_candidates else None
    if not len(boxes) or not locations:
        return index, candidates

    image_of = np.repeat(np.arange(images), np.diff(offsets))
    lattice = _Lattice(np.broadcast_to(np.array(grids, np.int64), (images, len(grids), 2)), strides, starts)
    flat = index.reshape(-1)
    real = _real(boxes)
    paintable = real if ignore is None else real & ~ignore
    if ignore is not None and (ignore & real).any():
        crowded = np.isin(image_of, image_of[ignore & real])
        anywhere = [(0.0, np.inf)] * len(grids)
        for rows, value in ((ignore & real, -2), (paintable & crowded, -1)):
            for cell, _ in lattice.claims(boxes, image_of, np.flatnonzero(rows), anywhere, 0.0, True).blocks():
                flat[cell] = value

    claims = lattice.claims(boxes, image_of, np.flatnonzero(paintable), ranges, radius, inclusive)
    owner = claims.owners()
    taken = owner >= 0
    flat[taken] = claims.row[owner[taken]]
    if candidates is not None:
        for cell, _ in claims.blocks():
            candidates += np.bincount(cell, minlength=candidates.size).reshape(candidates.shape).astype(np.int32)
    return index, candidates


def claims(
    boxes: Floats,
    offsets: Ints,
    *,
    grids: Ints,
    strides: Sequence[int],
    starts: Sequence[int],
    ranges: Sequence[Range],
    radius: float = 0.0,
    inclusive: bool = True,
) -> Claims:
    """The cells that each box may have (rules 1-3), for programs that count something else than `paint` does.

    Arguments as there, but `grids` is int64 [N, levels, 2]: every image has its own.
    """
    image_of = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    lattice = _Lattice(grids, strides, starts)
    return lattice.claims(boxes, image_of, np.flatnonzero(_real(boxes)), ranges, radius, inclusive)


def _real(boxes: Floats) -> Bools:
    finite = np.isfinite(boxes)
    solid = boxes[:, 2:] > boxes[:, :2]
    return np.asarray(finite.all(axis=1) & solid.all(axis=1))


class _Lattice:
    """The locations of all levels of all images, and the cell ranges in which conditions on boxes hold.

    Cell ranges are int64 [levels, T, 2]: first and one past the last cell along x and y.
    """

    def __init__(self, grids: Ints, strides: Sequence[int], starts: Sequence[int]) -> None:
        shape = (-1, 1, 1)
        self.grids = grids
        self.stride = np.array(strides, np.int64).reshape(shape)
        self.start = np.array(starts, np.int64).reshape(shape)

    def claims(
        self, boxes: Floats, image_of: Ints, rows: Ints, ranges: Sequence[Range], radius: float, inclusive: bool
    ) -> Claims:
        """What these rows of the boxes may have."""
        with np.errstate(over="ignore"):
            sides = boxes[rows, 2:] - boxes[rows, :2]
            area = sides[:, 0] * sides[:, 1]
        image = image_of[rows]
        order = np.lexsort((-rows, -area, image))
        rows, image = rows[order], image[order]
        box, level, (x, y, width, height) = _frames(*self._candidates(boxes[rows], image, ranges, radius, inclusive))
        image = image[box]
        sizes = self.grids.prod(axis=2)
        before = np.cumsum(sizes).reshape(sizes.shape) - sizes
        pitch = self.grids[image, level, 1]
        first = before[image, level] + y * pitch + x
        return Claims(rows[box], level, first, height, width, pitch, int(sizes.sum()))

    def _candidates(
        self, boxes: Floats, image: Ints, ranges: Sequence[Range], radius: float, inclusive: bool
    ) -> tuple[Ints, Ints, Ints, Ints]:
        """Cells a box may have: those of a rectangle (first, last) outside of a hole (first, last)."""
        cells = self.grids[image, :, ::-1].swapaxes(0, 1)
        low, high = boxes[:, :2], boxes[:, 2:]
        lower = np.array([r[0] for r in ranges], np.float32).reshape(-1, 1, 1)
        upper = np.array([r[1] for r in ranges], np.float32).reshape(-1, 1, 1)
        within = np.less_equal if inclusive else np.less
        below = np.less if inclusive else np.less_equal
        inner_low: Floats = low
        inner_high: Floats = high
        if radius > 0:
            half = (radius * self.stride).astype(np.float32)
            centre = (low + high) * np.float32(0.5)
            inner_low = np.maximum(centre - half, low)
            inner_high = np.minimum(centre + half, high)
        first = self._first(cells, lambda x: x > inner_low, inner_low)
        last = self._first(cells, lambda x: ~(x < inner_high), inner_high)
        first = np.maximum(first, self._first(cells, lambda x: within(high - x, upper), high - upper))
        last = np.minimum(last, self._first(cells, lambda x: ~within(x - low, upper), low + upper))
        hole_first = self._first(cells, lambda x: below(high - x, lower), high - lower)
        hole_last = self._first(cells, lambda x: ~below(x - low, lower), low + lower)
        return first, last, np.clip(hole_first, first, None), np.clip(hole_last, None, last)

    def _first(self, cells: Ints, holds: Callable[[Floats], Bools], around: Floats) -> Ints:
        """First cell whose coordinate satisfies `holds`, which turns from false to true; the number of cells if none.

        `around` is the coordinate near which it turns.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            guess = np.ceil((around.astype(np.float64) - self.start) / self.stride)
            cell = np.clip(guess, 0, cells).astype(np.int64)
            while True:
                back = (cell > 0) & holds(self._coordinate(cell - 1))
                ahead = (cell < cells) & ~holds(self._coordinate(cell))
                if not (back.any() or ahead.any()):
                    return cell
                cell += ahead.astype(np.int64) - back

    def _coordinate(self, cell: Ints) -> Floats:
        return (self.start + cell * self.stride).astype(np.float32)


def _frames(first: Ints, last: Ints, hole_first: Ints, hole_last: Ints) -> tuple[Ints, Ints, tuple[Ints, ...]]:
    """Rectangles minus their holes, cut into at most four: (row, level, (x, y, width, height)), rows ascending."""
    row, level = np.nonzero((first < last).all(axis=2).T)
    (x0, y0), (x1, y1) = first[level, row].T, last[level, row].T
    (u0, v0), (u1, v1) = hole_first[level, row].T, hole_last[level, row].T
    # Without a hole all is above it.
    solid = (u0 >= u1) | (v0 >= v1)
    v0, v1 = np.where(solid, y1, v0), np.where(solid, y1, v1)
    above, below, left, right = (x0, y0, x1, v0), (x0, v1, x1, y1), (x0, v0, u0, v1), (u1, v0, x1, v1)
    pieces = np.array([above, below, left, right])
    corner, size = pieces[:, :2], pieces[:, 2:] - pieces[:, :2]
    owner, piece = np.nonzero((size > 0).all(axis=1).T)
    (x, y), (width, height) = corner[piece, :, owner].T, size[piece, :, owner].T
    return row[owner], level[owner], (x, y, width, height)
