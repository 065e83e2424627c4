"""Best possible recall and ambiguity of a data set: the paper's Tables 1 and 2 (arXiv 1904.01355, section 3.2 and 4.1).

A box is recalled where at least one location is assigned to it, after the level rule and the smallest-area rule. A
location is ambiguous where more than one box remains after the level rule; its classes collide where those boxes have
more than one label. Both are shares of all positive locations. The recipe's assigner says
which cells a box may have.
"""

from dataclasses import dataclass

import numpy as np

from fcos_cli.data.records import DetectionData
from fcos_cli.stats.boxes import NetworkBoxes, Setting, network_boxes
from fcos_cli.stats.painting import Painting, paint_all
from fcos_cli.stats.parallel import Step, worthwhile_processes
from fcos_cli.stats.retinanet import LowQuality, match_anchors
from fcos_cli.stats.rows import Row, level_rows, percent

SMALL, LARGE = 32**2, 96**2  # square pixels of the original image, COCO's
SIDES = (0, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512)

# About what they take on one core; they only decide whether processes pay.
SECONDS_A_BOX, SECONDS_A_BOX_BY_ANCHORS = 8e-6, 2e-4


@dataclass(frozen=True)
class Coverage:
    """Which boxes of a data set a detector's samples can learn.

    Attributes:
        setting: what it was computed with.
        boxes: the T boxes, as the network meets them.
        won: int64 [T, P], positive samples (locations or anchors) that belong to a box, by level.
        recall: figures of Table 1: images, boxes, recalled, bpr (percent), by_size, by_level, by_class, by_side.
    """

    setting: Setting
    boxes: NetworkBoxes
    won: np.ndarray
    recall: Row

    @property
    def recalled(self) -> np.ndarray:
        """bool [T], whether any sample belongs to a box."""
        return np.asarray(self.won.any(axis=1))

    @property
    def missed(self) -> np.ndarray:
        """int64, rows of the data set whose boxes nothing learns."""
        return self.boxes.rows[~self.recalled]


@dataclass(frozen=True)
class LocationCoverage(Coverage):
    """The coverage of FCOS's locations.

    Attributes:
        painting: counts by box and level.
        ambiguity: figures of Table 2: positives, ambiguous, ambiguous_percent, cross_class, cross_class_percent,
            by_level, and pairs, the classes that collide, most first.
    """

    painting: Painting
    ambiguity: Row


def cover(
    data: DetectionData, setting: Setting, *, workers: int | None = None, step: Step | None = None
) -> LocationCoverage:
    """Assigns every location of every image, as training would, and counts.

    Args:
        workers: processes; None chooses by the number of boxes. The figures do not depend on it.
        step: told the number of images that are finished, now and then.

    Raises:
        DataError: the data set has no boxes that could be learnt.
    """
    boxes = network_boxes(data, setting)
    chosen = worthwhile_processes(SECONDS_A_BOX * len(boxes.rows), workers)
    painting = paint_all(boxes, data.labels[boxes.rows], setting, workers=chosen, step=step)
    return LocationCoverage(
        setting=setting,
        boxes=boxes,
        won=painting.won,
        recall=_recall(data, boxes, painting.won, setting),
        painting=painting,
        ambiguity=_ambiguity(data, painting, setting),
    )


def cover_by_anchors(
    data: DetectionData, setting: Setting, *, workers: int | None = None, step: Step | None = None
) -> dict[LowQuality, Coverage]:
    """The same for RetinaNet's anchors on the setting's levels, for each rule of low-quality matches.

    Args and errors as `cover`.
    """
    boxes = network_boxes(data, setting)
    chosen = worthwhile_processes(SECONDS_A_BOX_BY_ANCHORS * len(boxes.rows), workers)
    matched = match_anchors(boxes, setting, workers=chosen, step=step)
    return {rule: Coverage(setting, boxes, won, _recall(data, boxes, won, setting)) for rule, won in matched.items()}


def _recall(data: DetectionData, boxes: NetworkBoxes, won: np.ndarray, setting: Setting) -> Row:
    recalled = np.asarray(won.any(axis=1))
    labels, areas = data.labels[boxes.rows], data.areas[boxes.rows]
    corners = data.boxes[boxes.rows]
    with np.errstate(over="ignore"):
        sides = np.sqrt((corners[:, 2:] - corners[:, :2]).prod(axis=1))
    recalled_by_class = np.bincount(labels, recalled, minlength=len(data.categories)).astype(int).tolist()
    counts = np.bincount(labels, minlength=len(data.categories)).tolist()
    sizes = (
        ("small", areas < SMALL),
        ("medium", (areas >= SMALL) & (areas <= LARGE)),
        ("large", areas > LARGE),
    )
    on_level = zip(level_rows(setting), (won > 0).sum(axis=0).tolist(), won.sum(axis=0).tolist(), strict=True)
    return {
        "images": len(data),
        **_share(len(recalled), int(recalled.sum())),
        "by_size": [{"name": name, **_share(int(m.sum()), int(recalled[m].sum()))} for name, m in sizes],
        "by_level": [
            {**level, "recalled": count, "percent": percent(count, len(recalled)), "positives": positives}
            for level, count, positives in on_level
        ],
        "by_class": [
            {"name": name, **_share(count, hits)}
            for name, count, hits in zip(data.categories.names, counts, recalled_by_class, strict=True)
        ],
        "by_side": _by_side(sides, recalled),
    }


def _by_side(sides: np.ndarray, recalled: np.ndarray) -> list[Row]:
    place = np.searchsorted(SIDES, sides, side="right") - 1
    counts = np.bincount(place, minlength=len(SIDES)).tolist()
    recalled_by_side = np.bincount(place, recalled, minlength=len(SIDES)).astype(int).tolist()
    uppers = [*SIDES[1:], None]
    return [
        {"lower": lower, "upper": upper, **_share(count, hits)}
        for lower, upper, count, hits in zip(SIDES, uppers, counts, recalled_by_side, strict=True)
    ]


def _ambiguity(data: DetectionData, painting: Painting, setting: Setting) -> Row:
    columns = (painting.positives.tolist(), painting.ambiguous.tolist(), painting.cross_class.tolist())
    totals = [sum(column) for column in columns]
    names = data.categories.names
    pairs = painting.pairs[np.argsort(-painting.pairs[:, 2], kind="stable")].tolist()
    return {
        **_collisions(*totals),
        "by_level": [
            {**level, **_collisions(*counts)} for level, *counts in zip(level_rows(setting), *columns, strict=True)
        ],
        "pairs": [
            {
                "winner": names[winner],
                "loser": names[loser],
                "locations": count,
                "percent_of_ambiguous": percent(count, totals[1]),
            }
            for winner, loser, count in pairs
        ],
    }


def _share(boxes: int, recalled: int) -> Row:
    return {"boxes": boxes, "recalled": recalled, "bpr": percent(recalled, boxes)}


def _collisions(positives: int, ambiguous: int, cross_class: int) -> Row:
    return {
        "positives": positives,
        "ambiguous": ambiguous,
        "ambiguous_percent": percent(ambiguous, positives),
        "cross_class": cross_class,
        "cross_class_percent": percent(cross_class, positives),
    }
