"""Which boxes of a data set a recipe can never learn, why, and what a change of the recipe would recover: computed.

A box that no location is assigned to falls in one of four groups, tested in this order (with m its longer side in the
network's input; the largest of l, t, r, b of a location inside it lies within [m / 2, m)):

    outside   no level's range meets [m / 2, m)
    between   a level's range does, but none of its locations that lie in the box (and the centre square) is in range
    repeated  it may have locations, and an equal box of its image comes first
    covered   it may have locations, and smaller boxes get all of them
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from fcos_cli.data.records import DetectionData
from fcos_cli.geometry.pyramid import MIN_LEVEL, Pyramid, build_pyramid, default_ranges
from fcos_cli.recipe.keys import toml_value
from fcos_cli.recipe.schema import Recipe
from fcos_cli.stats.boxes import Setting
from fcos_cli.stats.coverage import LocationCoverage
from fcos_cli.stats.rows import Row, percent

Cover = Callable[[Setting], LocationCoverage]

REASONS = {
    "outside": "outside every level's range",
    "between": "falls between the locations of its level",
    "repeated": "equal to another box of its image",
    "covered": "covered by smaller boxes",
}
LARGER = (1.25, 1.5, 2.0)
WORTH = 0.1
"""Percent of all boxes: a change that recovers less is not advised."""
MUCH_MORE_AMBIGUOUS, WORTH_AMBIGUITY = 1.5, 1.0
"""A change after which so many times as many of the positives are ambiguous must recover this percent."""
NEAR_ENOUGH = 0.8
"""Of two changes the one with fewer locations is advised, if it recovers this share of what the other does."""
MOST_CHANGES = len(LARGER) + 4
MOST_COMBINATIONS = 2


@dataclass(frozen=True)
class Change:
    """A change of the setting.

    Attributes:
        kind: size, pyramid or sampling; changes of different kinds can be made together.
        name: for a person.
        fields: of `Setting`, with their new values.
    """

    kind: str
    name: str
    fields: Row


@dataclass(frozen=True)
class Advice:
    """What a recipe cannot learn of a data set, and what would help.

    Attributes:
        before: the coverage as it is.
        reasons: a key of `REASONS` for each of `before.missed`.
        missed: boxes, bpr, missed, by_reason, by_class, and the other figures that changes are held against.
        tried: each change and its effect; rows as `_effect` makes them.
        advised: the row of the change to make, perhaps a combination; None: nothing is worth it.
    """

    before: LocationCoverage
    reasons: np.ndarray
    missed: Row
    tried: list[Row]
    advised: Row | None


def advise(data: DetectionData, recipe: Recipe, setting: Setting, cover: Cover) -> Advice:
    """Tries each change on the whole data set, and those of other kinds on top of the best.

    Args:
        recipe: what the keys to set are relative to.
        setting: the recipe's, or another that the user asks about.
        cover: a setting to the data's coverage.

    Raises:
        DataError: the data set has no boxes that could be learnt.
    """

    def attempt(*together: Change) -> Row:
        changed = setting
        for change in together:
            changed = replace(changed, **change.fields)
        return {
            "change": ", ".join(change.name for change in together),
            "set": recipe_overrides(recipe, changed),
            **_effect(before, cover(changed)),
        }

    before = cover(setting)
    reasons = why_missed(before)
    possible = list(changes(setting))
    tried = [attempt(change) for change in possible]
    chosen = _best(tried, before)
    if chosen is None:
        return Advice(before, reasons, _missed(data, before, reasons), tried, None)
    candidates = list(tried)
    others: dict[str, int] = {}
    for position, change in enumerate(possible):
        leader = others.get(change.kind)
        if change.kind != possible[chosen].kind and (leader is None or tried[position]["gain"] > tried[leader]["gain"]):
            others[change.kind] = position
    for position in others.values():
        if tried[position]["gain"] > 0:
            both = attempt(possible[chosen], possible[position])
            tried.append(both)
            if both["gain_percent"] >= tried[chosen]["gain_percent"] + WORTH:
                candidates.append(both)
    best = _best(candidates, before)
    advised = None if best is None else candidates[best]
    return Advice(before, reasons, _missed(data, before, reasons), tried, advised)


def why_missed(coverage: LocationCoverage) -> np.ndarray:
    """The reason, a key of `REASONS`, for each missed box: texts, in the order of `coverage.missed`."""
    boxes, setting = coverage.boxes, coverage.setting
    lost = np.flatnonzero(~coverage.recalled)
    box = boxes.boxes[lost]
    longer = (box[:, 2:] - box[:, :2]).max(axis=1)
    meets = setting.claim_rule.levels(setting.assign, longer, setting.pyramid)
    claimed = coverage.painting.claimed[lost].any(axis=1)
    image_of = np.repeat(np.arange(len(boxes.padded)), np.diff(boxes.offsets))
    _, first = np.unique(np.column_stack([image_of, boxes.boxes]), axis=0, return_index=True)
    original = np.zeros(len(boxes.boxes), bool)
    original[first] = True
    tests = [~meets.any(axis=1), ~claimed, ~original[lost]]
    return np.select(tests, ["outside", "between", "repeated"], default="covered")


def _missed(data: DetectionData, coverage: LocationCoverage, reasons: np.ndarray) -> Row:
    labels = data.labels[coverage.missed]
    lost = np.bincount(labels, minlength=len(data.categories)).tolist()
    counts = np.bincount(data.labels[coverage.boxes.rows], minlength=len(data.categories)).tolist()
    by_class = [
        {"name": name, "boxes": boxes, "missed": missed, "percent": percent(missed, boxes)}
        for name, boxes, missed in zip(data.categories.names, counts, lost, strict=True)
        if missed
    ]
    return {
        **_figures(coverage),
        "missed": len(coverage.missed),
        "by_reason": [
            {"name": name, "reason": text, "boxes": int((reasons == name).sum())} for name, text in REASONS.items()
        ],
        "by_class": sorted(by_class, key=lambda row: -row["missed"]),
    }


def _figures(coverage: LocationCoverage) -> Row:
    recall, ambiguity = coverage.recall, coverage.ambiguity
    return {
        "boxes": recall["boxes"],
        "bpr": recall["bpr"],
        "positives": ambiguity["positives"],
        "ambiguous_percent": ambiguity["ambiguous_percent"],
        "cross_class_percent": ambiguity["cross_class_percent"],
    }


def changes(setting: Setting) -> Iterator[Change]:
    """What could be changed, one thing at a time: a larger input, a finer level, other ranges, the centre sampling."""
    for factor in LARGER:
        short, long = round(setting.short_side * factor), round(setting.long_side * factor)
        yield Change("size", f"short side {short}", {"short_side": short, "long_side": long})
    finer = _finer(setting.pyramid)
    if finer is not None:
        yield Change("pyramid", f"add {finer.names[0]}", {"pyramid": finer})
    if len(setting.pyramid.levels) > 1:
        for factor, name in ((0.5, "half the ranges"), (2.0, "twice the ranges")):
            yield Change("pyramid", name, {"pyramid": _stretched(setting.pyramid, factor)})
    for name, assign in setting.assign.alternatives():
        yield Change("sampling", name, {"assign": assign})


def recipe_overrides(recipe: Recipe, setting: Setting) -> list[str]:
    """The `--set` texts that make a recipe train and test with a setting."""
    now = Setting.of_recipe(recipe)
    keys: dict[str, Any] = {}
    short, long = setting.short_side, setting.long_side
    if (short, long) != (now.short_side, now.long_side):
        given = recipe.data.short_side
        # A recipe that draws the short side keeps the width of its draw.
        drawn = short if isinstance(given, int) else [round(short * min(given) / max(given)), short]
        keys |= {"data.short_side": drawn, "data.long_side": long, "test.short_side": short, "test.long_side": long}
    if setting.pyramid != now.pyramid:
        indices = [level.index for level in setting.pyramid.levels]
        keys["model.pyramid.levels"] = indices
        if recipe.model.pyramid.ranges is not None or setting.pyramid.ranges != default_ranges(indices):
            keys["model.pyramid.ranges"] = [list(pair) for pair in setting.pyramid.ranges]
    before = now.assign.model_dump()
    keys |= {f"assign.{key}": v for key, v in setting.assign.model_dump().items() if before.get(key) != v}
    return [f"{key}={toml_value(value)}" for key, value in keys.items()]


def _finer(pyramid: Pyramid) -> Pyramid | None:
    """With one level more below; it takes the smaller half of what was the lowest level's."""
    indices = [level.index for level in pyramid.levels]
    if indices[0] == MIN_LEVEL:
        return None
    indices = [indices[0] - 1, *indices]
    if pyramid.ranges == default_ranges(indices[1:]):
        return build_pyramid(indices, origin=pyramid.origin)
    (lower, upper), *others = pyramid.ranges
    middle = float(1 << (indices[0] + 3)) if math.isinf(upper) else (lower + upper) / 2
    if not lower < middle < upper:
        return None
    return build_pyramid(indices, [(lower, middle), (middle, upper), *others], pyramid.origin)


def _stretched(pyramid: Pyramid, factor: float) -> Pyramid:
    ranges = [(lower * factor, upper * factor) for lower, upper in pyramid.ranges]
    return build_pyramid([level.index for level in pyramid.levels], ranges, pyramid.origin)


def _effect(before: LocationCoverage, after: LocationCoverage) -> Row:
    """What a change recovers and what it costs.

    Returns:
        The figures after it; recovered (boxes missed before, learnt after), lost (the other way round), gain
        (recovered - lost), gain_percent (of all boxes), locations (how many times as many there are, hence about how
        much more the head computes).
    """
    recovered = np.setdiff1d(before.missed, after.missed).size
    lost = np.setdiff1d(after.missed, before.missed).size
    return {
        **_figures(after),
        "recovered": recovered,
        "lost": lost,
        "gain": recovered - lost,
        "gain_percent": percent(recovered - lost, len(before.recalled)),
        "locations": _locations(after) / _locations(before),
    }


def _locations(coverage: LocationCoverage) -> int:
    """Locations of all images, on all levels."""
    sizes, counts = np.unique(coverage.boxes.padded, axis=0, return_counts=True)
    grids = (coverage.setting.pyramid.grids(height, width) for width, height in sizes.tolist())
    return sum(
        count * sum(rows * columns for rows, columns in grid)
        for count, grid in zip(counts.tolist(), grids, strict=True)
    )


def _best(effects: list[Row], before: LocationCoverage) -> int | None:
    """Position of the change to advise: of those that recover about the most, the one with the fewest locations."""
    limit = MUCH_MORE_AMBIGUOUS * (before.ambiguity["ambiguous_percent"] or 0.0)
    least = [WORTH if (row["ambiguous_percent"] or 0.0) <= limit else WORTH_AMBIGUITY for row in effects]
    worth = [i for i, row in enumerate(effects) if row["gain_percent"] >= least[i]]
    most = max((effects[i]["gain"] for i in worth), default=0)
    near = [i for i in worth if effects[i]["gain"] >= NEAR_ENOUGH * most]
    return min(near, key=lambda i: (effects[i]["locations"], -effects[i]["gain"])) if near else None
