"""Sizes and levels of a recipe, from the boxes of a data set."""

import numpy as np

from fcos_cli.data.records import DetectionData
from fcos_cli.drafting.choices import Draft
from fcos_cli.drafting.machine import Machine
from fcos_cli.geometry.pyramid import default_ranges
from fcos_cli.stats.advice import WORTH, advise
from fcos_cli.stats.boxes import Setting
from fcos_cli.stats.coverage import cover

SMALL, SMALL_BOX = 0.05, 32
"""Pixels that the smallest twentieth of the boxes shall have in the network's input: four strides of P3."""
LEAST, ON_CPU, ON_GPU = 256, 320, 800
LARGEST_ZOOM = 2.0
STEP = 16
MORE_LOCATIONS = {"cpu": 1.6, "gpu": 3.0}
"""How many times as much work a change may cost that `stats advise` finds."""


def choose_sizes(draft: Draft, data: DetectionData, machine: Machine) -> None:
    """Short and long sides of training and testing."""
    sizes = data.sizes[(data.sizes > 0).all(axis=1)].astype(np.float64)
    short = float(np.median(sizes.min(axis=1)))
    aspect = float(np.quantile(sizes.max(axis=1) / sizes.min(axis=1), 0.95))
    sides = np.sqrt(np.prod(_boxes(data)[:, 2:] - _boxes(data)[:, :2], axis=1))
    small = max(float(np.quantile(sides, SMALL)), 1.0)
    most = ON_GPU if machine.gpu else ON_CPU
    wanted = SMALL_BOX / small * short
    chosen = _round(min(max(wanted, min(LEAST, short)), most, LARGEST_ZOOM * short))
    about = (
        f"Short sides are {short:.0f} pixels (median), and a twentieth of the boxes is smaller than {small:.0f}: "
        f"{small * chosen / short:.0f} in the network's input with a short side of {chosen}. "
    )
    if wanted > chosen + STEP:
        place = "a GPU" if machine.gpu else "a CPU"
        limit = f"{most} is about what {place} has time for" if chosen >= most - STEP else "larger ones only blur"
        about += (
            f"{SMALL_BOX} would be good and need {wanted:.0f}; {limit}. A larger one helps where small objects matter."
        )
    else:
        about += (
            f"{SMALL_BOX}, four cells of the finest level, are enough to learn from; larger is slower and more exact."
        )
    low, high = _round(chosen * 0.85), _round(chosen * 1.15)
    long = _round(min(aspect, 2.5) * high)
    draft.choose(
        "data",
        f"{about} It is drawn anew for each batch, 15 % up and down, against overfitting; the long side leaves room "
        f"for images of {aspect:.2f} to 1.",
        short_side=[low, high],
        long_side=long,
    )
    draft.choose(
        "test",
        "The middle of the sizes that training draws.",
        short_side=chosen,
        long_side=_round(min(aspect, 2.5) * chosen),
    )


def choose_levels(draft: Draft, data: DetectionData, machine: Machine) -> None:
    """Levels of the pyramid: no more than the largest box needs, and what `fcos stats advise` finds on top."""
    setting = Setting.of_recipe(draft.recipe())
    shorts = np.maximum(data.sizes.min(axis=1), 1)
    scale = np.repeat(setting.short_side / shorts, np.diff(data.offsets))[~data.crowd]
    boxes = _boxes(data)
    longest = float(((boxes[:, 2:] - boxes[:, :2]).max(axis=1) * scale).max())
    levels = [3, 4, 5, 6, 7]
    while len(levels) > 3 and default_ranges(levels)[-1][0] >= longest:
        levels.pop()
    reason = f"The longest side of a box is {longest:.0f} pixels in the network's input"
    if len(levels) < 5:
        unused = " and ".join(f"P{level}" for level in range(levels[-1] + 1, 8))
        reason += f": {unused} would have nothing to learn."
    else:
        reason += ": the paper's levels, P3 to P7."
    draft.choose("model.pyramid", reason, levels=levels)
    recipe = draft.recipe()
    setting = Setting.of_recipe(recipe)
    advice = advise(data, recipe, setting, lambda changed: cover(data, changed))
    missed = advice.missed
    figures = f"{missed['missed']:,} of {missed['boxes']:,} boxes get no location to learn from"
    limit = MORE_LOCATIONS["gpu" if machine.gpu else "cpu"]
    rows = [advice.advised] if advice.advised is not None else []
    rows += sorted(advice.tried, key=lambda row: -row["gain"])
    affordable = [
        row
        for row in rows
        if row["locations"] <= limit and row["gain_percent"] >= WORTH and "model.pyramid" in " ".join(row["set"])
    ]
    if advice.advised is None or not affordable:
        told = f"{reason} fcos stats advise: {figures}; no other levels are worth their cost."
        draft.choose("model.pyramid", told, levels=levels)
        return
    row = affordable[0]
    reason = (
        f"{reason} fcos stats advise: {figures}; {row['change']} recovers {row['recovered']:,} for "
        f"{row['locations']:.2g} times the locations."
    )
    _set(draft, row["set"], reason)


def _set(draft: Draft, overrides: list[str], reason: str) -> None:
    """The `--set` texts of an advice as choices."""
    from fcos_cli.recipe.load import parse_override

    for text in overrides:
        content = parse_override(text)
        path = []
        while isinstance(content, dict) and len(content) == 1:
            key, content = next(iter(content.items()))
            path.append(key)
        draft.choose(".".join(path[:-1]), reason, **{path[-1]: content})


def _boxes(data: DetectionData) -> np.ndarray:
    """float64 [B, 4], those that are learnt."""
    return data.boxes[~data.crowd]


def _round(side: float) -> int:
    return max(STEP, round(side / STEP) * STEP)
