"""The assignment of locations to boxes, painted: NumPy only, linear in boxes and locations, no [L, G] array.

Location (i, j) of a level with stride s lies at (x, y) = (start + i s, start + j s). With l = x - x0, t = y - y0,
r = x1 - x, b = y1 - y (FCOS, arXiv 1904.01355, section 3; fcos-spec section 2), a box may have the location if

1. min(l, t, r, b) > 0;
2. with a radius R > 0: the same holds for the square of half side R s around the box's centre, cut to the box;
3. lower <= max(l, t, r, b) <= upper, or strictly so where the ends are exclusive.

Each condition bounds x and y separately: 1, 2 and the upper end hold in a rectangle of cells, and the lower end fails
in another. So a box may have a rectangle minus a rectangle. Painting boxes from the largest area to the smallest, equal
areas from the last row to the first, leaves each location to its smallest box, ties to the lower row.

All comparisons are those of the plain float32 formula, location by location: x - x0 rounded to float32 is monotone in
x, so every bound is a cell index found from an estimate and then moved until the formula itself agrees.
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

Grid = tuple[int, int]
Range = tuple[float, float]
Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
Pieces = list[tuple[slice, slice]]
Claim = tuple[int, int, int, Pieces]
Painted = tuple[NDArray[np.int32], NDArray[np.int32] | None]


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
    images = len(offsets) - 1
    sizes = [rows * columns for rows, columns in grids]
    index = np.full((images, sum(sizes)), -1, np.int32)
    candidates = np.zeros_like(index) if count_candidates else None
    if not len(boxes) or not sum(sizes):
        return index, candidates

    image_of = np.repeat(np.arange(images), np.diff(offsets))
    real = _real(boxes)
    paintable = real if ignore is None else real & ~ignore
    lattice = _Lattice(grids, strides, starts)
    canvases = _canvases(index, grids)

    if ignore is not None and (ignore & real).any():
        crowded = np.isin(image_of, image_of[ignore & real])
        for rows, value in ((np.flatnonzero(ignore & real), -2), (np.flatnonzero(paintable & crowded), -1)):
            first, last = lattice.inside(boxes[rows])
            for level, row, (x0, y0), (x1, y1) in _solids(first, last):
                canvases[image_of[rows[row]]][level][y0:y1, x0:x1] = value

    counters = _canvases(candidates, grids) if candidates is not None else None
    for image, level, row, pieces in claims(
        boxes,
        offsets,
        grids=grids,
        strides=strides,
        starts=starts,
        ranges=ranges,
        radius=radius,
        inclusive=inclusive,
        ignore=ignore,
    ):
        for piece in pieces:
            canvases[image][level][piece] = row
            if counters is not None:
                counters[image][level][piece] += 1
    return index, candidates


def claims(
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
) -> Iterator[Claim]:
    """The cells that each box may have (rules 1-3), in painting order: image by image, the largest box first.

    For programs that paint something else than `paint` does. Arguments as there, but `grids` may be larger than those
    of an image: NumPy cuts slices that pass the end of its canvas.

    Yields:
        (image, level, row of `boxes`, [(rows, columns) slices that do not overlap]) where a box may have any cell.
    """
    image_of = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets))
    paintable = _real(boxes) if ignore is None else _real(boxes) & ~ignore
    rows = np.flatnonzero(paintable)
    with np.errstate(over="ignore"):
        sides = boxes[rows, 2:] - boxes[rows, :2]
        area = sides[:, 0] * sides[:, 1]
    rows = rows[np.lexsort((-rows, -area, image_of[rows]))]
    cells = _Lattice(grids, strides, starts).candidates(boxes[rows], ranges, radius, inclusive)
    owners, images = rows.tolist(), image_of[rows].tolist()
    for level, row, pieces in _frames(*cells):
        yield images[row], level, owners[row], pieces


def _real(boxes: Floats) -> Bools:
    finite = np.isfinite(boxes)
    solid = boxes[:, 2:] > boxes[:, :2]
    return np.asarray(finite.all(axis=1) & solid.all(axis=1))


def _canvases(flat: NDArray[np.int32], grids: Sequence[Grid]) -> list[list[NDArray[np.int32]]]:
    """Views [rows, columns] of [N, L], by image and level."""
    bounds = np.cumsum([0, *(rows * columns for rows, columns in grids)])
    return [[line[a:b].reshape(grid) for a, b, grid in zip(bounds, bounds[1:], grids, strict=False)] for line in flat]


class _Lattice:
    """The locations of all levels, and the cell ranges in which conditions on boxes hold.

    Cell ranges are int64 [levels, T, 2]: first and one past the last cell along x and y.
    """

    def __init__(self, grids: Sequence[Grid], strides: Sequence[int], starts: Sequence[int]) -> None:
        shape = (-1, 1, 1)
        self.cells = np.array([(columns, rows) for rows, columns in grids], np.int64).reshape(-1, 1, 2)
        self.stride = np.array(strides, np.int64).reshape(shape)
        self.start = np.array(starts, np.int64).reshape(shape)

    def inside(self, boxes: Floats) -> tuple[Ints, Ints]:
        """Cells strictly inside boxes float32 [T, 4]."""
        low, high = boxes[:, :2], boxes[:, 2:]
        return self._first(lambda x: x > low, low), self._first(lambda x: ~(x < high), high)

    def candidates(
        self, boxes: Floats, ranges: Sequence[Range], radius: float, inclusive: bool
    ) -> tuple[Ints, Ints, Ints, Ints]:
        """Cells a box may have: those of a rectangle (first, last) outside of a hole (first, last)."""
        low, high = boxes[:, :2], boxes[:, 2:]
        lower = np.array([r[0] for r in ranges], np.float32).reshape(-1, 1, 1)
        upper = np.array([r[1] for r in ranges], np.float32).reshape(-1, 1, 1)
        within = np.less_equal if inclusive else np.less
        below = np.less if inclusive else np.less_equal
        inner_low: Floats = low
        inner_high: Floats = high
        if radius > 0:
            half = np.float32(radius) * self.stride.astype(np.float32)
            centre = (low + high) * np.float32(0.5)
            inner_low = np.maximum(centre - half, low)
            inner_high = np.minimum(centre + half, high)
        first = self._first(lambda x: x > inner_low, inner_low)
        last = self._first(lambda x: ~(x < inner_high), inner_high)
        first = np.maximum(first, self._first(lambda x: within(high - x, upper), high - upper))
        last = np.minimum(last, self._first(lambda x: ~within(x - low, upper), low + upper))
        hole_first = self._first(lambda x: below(high - x, lower), high - lower)
        hole_last = self._first(lambda x: ~below(x - low, lower), low + lower)
        return first, last, np.clip(hole_first, first, None), np.clip(hole_last, None, last)

    def _first(self, holds: Callable[[Floats], Bools], around: Floats) -> Ints:
        """First cell whose coordinate satisfies `holds`, which turns from false to true; the number of cells if none.

        `around` is the coordinate near which it turns.
        """
        with np.errstate(over="ignore", invalid="ignore"):
            guess = np.ceil((around.astype(np.float64) - self.start) / self.stride)
            cell = np.clip(guess, 0, self.cells).astype(np.int64)
            while True:
                back = (cell > 0) & holds(self._coordinate(cell - 1))
                ahead = (cell < self.cells) & ~holds(self._coordinate(cell))
                if not (back.any() or ahead.any()):
                    return cell
                cell += ahead.astype(np.int64) - back

    def _coordinate(self, cell: Ints) -> Floats:
        return (self.start + cell * self.stride).astype(np.float32)


def _solids(first: Ints, last: Ints) -> Iterator[tuple[int, int, list[int], list[int]]]:
    """(level, row, first cell, last cell) of the rectangles that are not empty."""
    levels, rows = np.nonzero((first < last).all(axis=2))
    return zip(levels.tolist(), rows.tolist(), first[levels, rows].tolist(), last[levels, rows].tolist(), strict=True)


def _frames(first: Ints, last: Ints, hole_first: Ints, hole_last: Ints) -> Iterator[tuple[int, int, Pieces]]:
    """(level, row, [(rows, columns), ...]) of rectangles minus their holes, where something is left; rows ascending."""
    filled = np.all(first < last, axis=2)
    holed: Bools = np.asarray(np.all(hole_first < hole_last, axis=2))
    covered = holed & np.all(hole_first <= first, axis=2) & np.all(hole_last >= last, axis=2)
    rows, levels = np.nonzero((filled & ~covered).T)
    holes = holed[levels, rows].tolist()
    outer = np.concatenate([first[levels, rows], last[levels, rows]], axis=1).tolist()
    inner = np.concatenate([hole_first[levels, rows], hole_last[levels, rows]], axis=1).tolist()
    for level, row, holed_here, (x0, y0, x1, y1), (u0, v0, u1, v1) in zip(
        levels.tolist(), rows.tolist(), holes, outer, inner, strict=True
    ):
        if not holed_here:
            yield level, row, [(slice(y0, y1), slice(x0, x1))]
            continue
        pieces = []
        if y0 < v0:
            pieces.append((slice(y0, v0), slice(x0, x1)))
        if v1 < y1:
            pieces.append((slice(v1, y1), slice(x0, x1)))
        if x0 < u0:
            pieces.append((slice(v0, v1), slice(x0, u0)))
        if u1 < x1:
            pieces.append((slice(v0, v1), slice(u1, x1)))
        yield level, row, pieces
