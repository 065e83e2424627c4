"""Where detections come from: the share from ambiguous locations (arXiv 1904.01355, section 4.1: 2.3 % and 1.5 %).

A location is ambiguous where more than one ground-truth box of its image may have it, by the recipe's assigner.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError
from fcos_cli.evaluation.results import check_results
from fcos_cli.stats.boxes import NetworkBoxes, Setting, input_sizes, network_boxes
from fcos_cli.stats.painting import claims_of
from fcos_cli.stats.parallel import part_of, parts
from fcos_cli.stats.rows import level_rows, percent
from fcos_kernels.assign.paint import Claims

# A pixel of the network's input, and what result lists are rounded by, in pixels of the original image.
TOLERANCE, ROUNDING = 1.0, 0.001
# Above this share of detections that do not contain their own location, they were made with other sizes.
MOST_STRAY = 0.05

_HINT = "--recipe should name the recipe of the weights that made these predictions"


def trace(
    data: DetectionData,
    results: np.ndarray,
    level: np.ndarray,
    location: np.ndarray,
    setting: Setting,
    step: Callable[[int], None] | None = None,
) -> dict[str, Any]:
    """Counts the detections whose location several boxes may have.

    Args:
        data: the annotated images.
        results: float64 [K, 7], level: int64 [K], location: int64 [K, 2], as `load_located_results` returns them.
        setting: that of the predictions; `Setting.of_test` makes it from the recipe of the weights.
        step: told the number of detections that are finished, now and then.

    Returns:
        For JSON, percent unrounded and None of nothing: detections; positive, those from a location that some box may
        have; ambiguous, from one that several may have; cross_class, from one that boxes of several classes may have;
        each of these three with its _percent of the detections; and by_level, rows of the same for the detections of
        each level, with its name, stride, lower and upper (None: no end), and the level's percent of all detections.

    Raises:
        DataError: the data has no boxes or no such images; levels or locations that the setting lacks; more than 5 %
            of the detections do not contain their own location, so that they were predicted at other sizes.
    """
    check_results(data, results)
    boxes = network_boxes(data, setting)
    order = np.argsort(data.image_ids, kind="stable")
    image = order[np.searchsorted(data.image_ids, results[:, 0], sorter=order)]
    position = _check_locations(level, location, setting)
    _check_sizes(data, results, image, location, setting)
    count, mixed = count_candidates(boxes, data.labels[boxes.rows], image, position, location, setting, step)
    return _figures(position, count, mixed, setting)


def count_candidates(
    boxes: NetworkBoxes,
    labels: np.ndarray,
    image: np.ndarray,
    position: np.ndarray,
    location: np.ndarray,
    setting: Setting,
    step: Callable[[int], None] | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """How many boxes may have each of K locations, and whether these are of several classes.

    Args:
        boxes: T boxes as the network meets them, of N images.
        labels: int [T], their classes.
        image: int64 [K] in 0..N-1.
        position: int64 [K], position in the setting's list of levels.
        location: int64 [K, 2], x and y in pixels of the network input.
        setting: pyramid and assigner.
        step: told the number of locations that are finished, now and then.

    Returns:
        int64 [K] and bool [K].
    """
    count, mixed = np.zeros(len(image), dtype=np.int64), np.zeros(len(image), dtype=bool)
    order = np.argsort(image, kind="stable")
    for begin, end in parts(boxes, setting):
        chosen = order[slice(*np.searchsorted(image[order], [begin, end]))]
        if len(chosen):
            owned, classes = part_of(boxes, begin, end), labels[slice(*boxes.offsets[[begin, end]])]
            cell = _cells(owned, image[chosen] - begin, position[chosen], location[chosen], setting)
            on_grid = cell >= 0
            counts, several = _count(claims_of(owned, setting), classes, cell[on_grid])
            count[chosen[on_grid]], mixed[chosen[on_grid]] = counts, several
            if step is not None:
                step(len(chosen))
    return count, mixed


def _cells(
    boxes: NetworkBoxes, image: np.ndarray, position: np.ndarray, location: np.ndarray, setting: Setting
) -> np.ndarray:
    """int64 [K], numbers of the locations' cells as claims count them; -1 of one in the padding beyond its image's."""
    pyramid = setting.pyramid
    grids = pyramid.grids_of(boxes.padded)
    sizes = grids.prod(axis=2).ravel()
    first = (np.cumsum(sizes) - sizes).reshape(grids.shape[:2])
    stride, start = (np.array(values)[position, None] for values in (pyramid.strides, pyramid.starts))
    x, y = ((location - start) // stride).T
    rows, columns = grids[image, position].T
    return np.where((x < columns) & (y < rows), first[image, position] + y * columns + x, -1)


def _count(claims: Claims, labels: np.ndarray, cell: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each of these cells, int64 [K] the boxes that claim it, and bool [K] whether they are of several classes."""
    wanted, place = np.unique(cell, return_inverse=True)
    count = np.zeros(len(wanted), dtype=np.int64)
    lowest, highest = np.full(len(wanted), np.iinfo(np.int64).max), np.full(len(wanted), -1)
    for claimed, claim in claims.blocks():
        at = np.minimum(np.searchsorted(wanted, claimed), len(wanted) - 1)
        hit = wanted[at] == claimed
        at, label = at[hit], labels[claims.row[claim[hit]]].astype(np.int64)
        count += np.bincount(at, minlength=len(wanted))
        np.minimum.at(lowest, at, label)
        np.maximum.at(highest, at, label)
    return count[place], (count > 1)[place] & (lowest < highest)[place]


def _check_locations(level: np.ndarray, location: np.ndarray, setting: Setting) -> np.ndarray:
    """int64 [K], position of each level in the setting's list."""
    pyramid = setting.pyramid
    position = level - pyramid.levels[0].index
    foreign = (position < 0) | (position >= len(pyramid.levels))
    if foreign.any():
        numbers = ", ".join(f"P{number}" for number in np.unique(level[foreign])[:5].tolist())
        raise DataError(
            f"{foreign.sum()} of {len(level)} detections come from {numbers}, but the levels are "
            f"{', '.join(pyramid.names)}",
            _HINT,
        )
    stride, start = (np.array(values)[position, None] for values in (pyramid.strides, pyramid.starts))
    off = ((location < start) | ((location - start) % stride != 0)).any(axis=1)
    if off.any():
        one = int(off.argmax())
        raise DataError(
            f"{off.sum()} of {len(level)} locations do not exist on their level, the first is {location[one].tolist()} "
            f"on P{level[one]}, where x and y are {start[one, 0]} + {stride[one, 0]} i",
            _HINT,
        )
    return position


def _check_sizes(
    data: DetectionData, results: np.ndarray, image: np.ndarray, location: np.ndarray, setting: Setting
) -> None:
    """Each box contains its own location: distances are never negative (docs/method.md, Outputs and targets)."""
    inner, _ = input_sizes(data.sizes, setting)
    # Images of unknown size have the ratio NaN, and nothing is said of them.
    with np.errstate(invalid="ignore"):
        ratio = (inner / data.sizes)[image]
    low, high = results[:, 1:3] * ratio, (results[:, 1:3] + results[:, 3:5]) * ratio
    # Boxes were cut to their image: that of a location in the padding touches the border.
    point = np.minimum(location, inner[image])
    slack = TOLERANCE + ROUNDING * ratio
    stray = int(((point < low - slack) | (point > high + slack)).any(axis=1).sum())
    if stray > MOST_STRAY * len(results):
        raise DataError(
            f"{stray} of {len(results)} detections do not contain their own location: they seem to be made with other "
            f"sizes or levels than short side {setting.short_side}, long side {setting.long_side} and "
            f"{', '.join(setting.pyramid.names)}",
            _HINT,
        )


def _figures(position: np.ndarray, count: np.ndarray, mixed: np.ndarray, setting: Setting) -> dict[str, Any]:
    levels = len(setting.pyramid.levels)
    columns = [
        np.bincount(position[chosen], minlength=levels).tolist() for chosen in (count >= 0, count > 0, count > 1, mixed)
    ]
    total, positive, ambiguous, cross_class = (sum(column) for column in columns)
    return {
        "detections": total,
        **_shares(total, positive, ambiguous, cross_class),
        "by_level": [
            {
                **level,
                "detections": here,
                "percent": percent(here, total),
                **_shares(here, *counts),
            }
            for level, here, *counts in zip(level_rows(setting), *columns, strict=True)
        ],
    }


def _shares(detections: int, positive: int, ambiguous: int, cross_class: int) -> dict[str, Any]:
    return {
        "positive": positive,
        "positive_percent": percent(positive, detections),
        "ambiguous": ambiguous,
        "ambiguous_percent": percent(ambiguous, detections),
        "cross_class": cross_class,
        "cross_class_percent": percent(cross_class, detections),
    }
