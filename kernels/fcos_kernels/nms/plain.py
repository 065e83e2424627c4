"""Greedy suppression in NumPy: the CPU path of `nms` and `batched_nms`.

But for a few boxes, which fit one matrix, each class is worked on alone. One of at most BLOCK boxes is held against
itself in one matrix. A larger one goes by blocks of the best boxes that are still in doubt: first among themselves,
then those that stay against all that is left, which is thinned out before the next block. Boxes apart in x cannot
overlap, so what is left lies in order of left sides, and GROUP kept boxes that are near one another meet a slice of it
alone.

Where only the best of an image are wanted, the best candidates are tried first, twice as many, then GROWTH times as
many as before: what stays of the best candidates does not depend on the others.
"""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]
Rows = NDArray[np.int64]

BLOCK, GROUP, SLICE = 512, 32, 2048
"""Boxes held against each other at once; GROUP x SLICE numbers fit a core's cache."""
FEW = 256
"""Boxes of all classes that one matrix is quicker for than a matrix a class."""
GROWTH = 8

_LEFT, _TOP, _RIGHT, _BOTTOM, _AREA = range(5)


def greedy(boxes: Floats, classes: NDArray[np.integer], threshold: float, most: int = 0) -> Rows:
    """Rows kept of one image's boxes.

    Args:
        boxes: float32 [K, 4] xyxy, by descending score.
        classes: integers [K].
        threshold: IoU above which a box suppresses later ones of its class.
        most: rows wanted at most; 0: all.

    Returns:
        int64 rows, ascending.
    """
    count = len(boxes)
    tried = min(2 * most or count, count)
    while True:
        kept = np.flatnonzero(_stays(boxes[:tried], classes[:tried], np.float32(threshold)))
        if 0 < most <= len(kept):
            return kept[:most]
        if tried == count:
            return kept
        tried = min(GROWTH * tried, count)


def _stays(boxes: Floats, classes: NDArray[np.integer], threshold: np.float32) -> Flags:
    """bool [K], whether each box is kept; boxes by descending score."""
    columns = np.empty((5, len(boxes)), np.float32)
    columns[:_AREA] = boxes.T
    kept = np.ones(len(boxes), np.bool_)
    with np.errstate(invalid="ignore", over="ignore", under="ignore", divide="ignore"):
        width, height = columns[_RIGHT] - columns[_LEFT], columns[_BOTTOM] - columns[_TOP]
        np.multiply(width, height, out=columns[_AREA])
        if threshold >= 0:
            # without area, or with an infinite one, or NaN: the IoU is 0 or NaN
            rows = np.flatnonzero((width > 0) & (columns[_AREA] > 0) & (columns[_AREA] < np.inf))
        else:
            rows = np.arange(len(boxes))
        if len(rows) <= FEW:
            same, few = classes[rows][:, None] == classes[rows], columns[:, rows]
            kept[rows] = _one_by_one(_overlap(few, few, threshold) & same)
            return kept
        rows = rows[np.argsort(classes[rows], kind="stable")]
        own = classes[rows]
        columns = columns[:, rows]
        ends = np.flatnonzero(own[1:] != own[:-1]) + 1
        for begin, end in zip([0, *ends.tolist()], [*ends.tolist(), len(rows)], strict=True):
            if end - begin > 1:
                kept[rows[begin:end]] = _one_class(columns[:, begin:end], threshold)
    return kept


def _one_class(columns: Floats, threshold: np.float32) -> Flags:
    """bool [K], whether each box of one class is kept. `columns` float32 [5, K], by descending score."""
    if columns.shape[1] <= BLOCK:
        return _one_by_one(_overlap(columns, columns, threshold))
    waiting = np.ones(columns.shape[1], np.bool_)
    kept = np.zeros_like(waiting)
    # a threshold below 0 is exceeded by boxes that are apart: then nothing can be told from x
    apart = bool(threshold >= 0)
    across = np.argsort(columns[_LEFT], kind="stable") if apart else np.arange(len(waiting))
    begin = 0
    while True:
        rows = begin + np.flatnonzero(waiting[begin:])[:BLOCK]
        if not len(rows):
            return kept
        own = columns[:, rows]
        stays = _one_by_one(_overlap(own, own, threshold))
        kept[rows[stays]] = True
        waiting[rows] = False
        begin = int(rows[-1]) + 1
        across = across[waiting[across]]
        if len(across):
            waiting[across[_suppressed(own[:, stays], columns[:, across], threshold, apart)]] = False


def _suppressed(kept: Floats, others: Floats, threshold: np.float32, apart: bool) -> Flags:
    """bool [B]: which of `others` [5, B], by left side where `apart`, overlap one of `kept` [5, A]."""
    overlapping = np.zeros(others.shape[1], np.bool_)
    if apart:
        kept = kept[:, np.argsort(kept[_LEFT], kind="stable")]
        reach = np.maximum.accumulate(others[_RIGHT])
    for first in range(0, kept.shape[1], GROUP):
        group = kept[:, first : first + GROUP]
        low, high = 0, len(overlapping)
        if apart:
            low = int(np.searchsorted(reach, group[_LEFT, 0], side="right"))
            high = int(np.searchsorted(others[_LEFT], group[_RIGHT].max(), side="left"))
        for part in _slices(low, high):
            overlapping[part] |= _overlap(group, others[:, part], threshold).any(0)
    return overlapping


def _slices(low: int, high: int) -> Iterator[slice]:
    for begin in range(low, high, SLICE):
        yield slice(begin, min(begin + SLICE, high))


def _overlap(a: Floats, b: Floats, threshold: np.float32) -> Flags:
    """bool [A, B]: boxes [5, A] and [5, B] with IoU above the threshold, rounded to float32 after every step."""
    a = a[:, :, None]
    shared = np.minimum(a[_RIGHT], b[_RIGHT])
    other = np.maximum(a[_LEFT], b[_LEFT])
    shared -= other
    np.maximum(shared, 0, out=shared)
    height = np.minimum(a[_BOTTOM], b[_BOTTOM])
    height -= np.maximum(a[_TOP], b[_TOP], out=other)
    np.maximum(height, 0, out=height)
    shared *= height
    union = np.add(a[_AREA], b[_AREA], out=other)
    union -= shared
    shared /= union
    above: Flags = shared > threshold
    return above


def _one_by_one(overlaps: Flags) -> Flags:
    """bool [K]: rows that no kept row above suppresses. `overlaps` bool [K, K]; at and below the diagonal unused."""
    count = len(overlaps)
    later = np.triu(overlaps, 1)
    alive = (1 << count) - 1
    packed = np.packbits(later, axis=1, bitorder="little")
    # whole rows as Python's integers: one operation suppresses everything a row overlaps
    for row in np.flatnonzero(later.any(1)).tolist():
        if alive >> row & 1:
            alive &= ~int.from_bytes(packed[row].tobytes(), "little")
    bits = np.frombuffer(alive.to_bytes(-(-count // 8), "little"), np.uint8)
    return np.unpackbits(bits, count=count, bitorder="little").astype(np.bool_)
