"""Assignment of a whole data set, painted and counted: which box gets how many locations, and which boxes collide.

The recipe's assigner gives the cells that a box may have, in painting order: a cell's candidates are the box painted
last on it and all that were painted before (FCOS, arXiv 1904.01355, sections 3.1 and 4.1). Counting what is painted
over gives the ambiguity, so no [locations x boxes] array is needed.
"""

from dataclasses import dataclass

import numpy as np

from fcos_cli.stats.boxes import NetworkBoxes, Setting
from fcos_cli.stats.parallel import Columns, Step, map_parts
from fcos_kernels.assign.paint import Claims

KEYS_AT_ONCE = 1 << 22


@dataclass(frozen=True)
class Painting:
    """Counts of a painted data set of T boxes on P levels.

    Attributes:
        won: int64 [T, P], locations that are assigned to a box.
        claimed: int64 [T, P], locations that a box may have, before the smallest area wins.
        positives: int64 [P], locations that have a box.
        ambiguous: int64 [P], locations that several boxes may have.
        cross_class: int64 [P], those whose boxes have more than one label.
        pairs: int64 [K, 3] by label: (winner, loser, locations that the winner's class has and a box of the loser's
            class may have, too). A location counts once for each class that loses there.
    """

    won: np.ndarray
    claimed: np.ndarray
    positives: np.ndarray
    ambiguous: np.ndarray
    cross_class: np.ndarray
    pairs: np.ndarray


def paint_all(
    boxes: NetworkBoxes, labels: np.ndarray, setting: Setting, *, workers: int = 1, step: Step | None = None
) -> Painting:
    """Paints every image. labels: int [T], the boxes' classes. The result does not depend on `workers`."""
    return _merge(list(map_parts(_paint_part, boxes, (labels,), setting, workers=workers, step=step)))


def claims_of(boxes: NetworkBoxes, setting: Setting) -> Claims:
    """The cells that each box may have, in painting order."""
    grids = setting.pyramid.grids_of(boxes.padded)
    return setting.claim_rule.claims(setting.assign, boxes.boxes, boxes.offsets, setting.pyramid, grids)


def _paint_part(boxes: NetworkBoxes, columns: Columns, setting: Setting) -> Painting:
    (labels,) = columns
    pyramid = setting.pyramid
    claims = claims_of(boxes, setting)
    shape = len(labels), len(pyramid.levels)
    # A claim's place in the array [T, P].
    place = claims.row * shape[1] + claims.level
    claimed = np.bincount(place, claims.height * claims.width, minlength=shape[0] * shape[1]).astype(np.int64)
    won = np.zeros_like(claimed)
    classes = int(labels.max(initial=0)) + 1
    label = labels[claims.row].astype(np.int64)
    owners = claims.owners()
    collected: list[np.ndarray] = []
    limit = KEYS_AT_ONCE
    for cell, claim in claims.blocks():
        owner = owners[cell]
        lost = owner != claim
        won += np.bincount(place[claim[~lost]], minlength=won.size)
        cell, claim, owner = cell[lost], claim[lost], owner[lost]
        # One number for a cell and a class that loses it: level, cell, loser, winner. Their order brings a cell's
        # together.
        keys = ((claims.level[claim] * claims.cells + cell) * classes + label[claim]) * classes + label[owner]
        collected.append(_distinct(keys))
        if sum(map(len, collected)) > limit:
            collected = [_distinct(np.concatenate(collected))]
            limit = max(KEYS_AT_ONCE, 2 * len(collected[0]))
    collisions = _distinct(np.concatenate(collected)) if collected else np.zeros(0, np.int64)
    places, losing, winning = collisions // classes**2, collisions // classes % classes, collisions % classes
    codes, counts = np.unique(winning * classes + losing, return_counts=True)
    return Painting(
        won=won.reshape(shape),
        claimed=claimed.reshape(shape),
        positives=won.reshape(shape).sum(axis=0),
        ambiguous=_by_level(_distinct(places), claims.cells, shape[1]),
        cross_class=_by_level(_distinct(places[losing != winning]), claims.cells, shape[1]),
        pairs=np.column_stack([codes // classes, codes % classes, counts]),
    )


def _by_level(places: np.ndarray, cells: int, levels: int) -> np.ndarray:
    return np.bincount(places // max(cells, 1), minlength=levels)


def _distinct(numbers: np.ndarray) -> np.ndarray:
    """The different ones of numbers >= 0, ascending."""
    # Keys come as ascending runs, one a claim, which this sort merges.
    ordered = np.sort(numbers, kind="stable")
    return ordered[np.diff(ordered, prepend=-1) > 0]


def _merge(parts: list[Painting]) -> Painting:
    pairs = np.concatenate([part.pairs for part in parts])
    different, place = np.unique(pairs[:, :2], axis=0, return_inverse=True)
    counts = np.bincount(place.ravel(), pairs[:, 2], minlength=len(different)).astype(np.int64)
    return Painting(
        won=np.concatenate([part.won for part in parts]),
        claimed=np.concatenate([part.claimed for part in parts]),
        positives=np.sum([part.positives for part in parts], axis=0),
        ambiguous=np.sum([part.ambiguous for part in parts], axis=0),
        cross_class=np.sum([part.cross_class for part in parts], axis=0),
        pairs=np.column_stack([different, counts]),
    )
