"""The heat maps of the statistics: classes that collide, and widths and heights of boxes with the levels' ranges."""

from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from math import inf, sqrt
from typing import TYPE_CHECKING

import numpy as np

from fcos_cli.report.figures import BLUE, ORANGE, Row, plain, say_in, short, tidy

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import QuadMesh

MOST_CLASSES = 20
BINS = 64
SHADES = ((0.0, "#e1eaf6"), (0.7, BLUE), (1.0, "#10294a"))
DARK_ORANGE = "#a3500f"
RANGES = (
    "Orange: the levels that may learn a box, by its longer side m. Its locations lie\n"
    "m / 2 to m from their farthest side, so the levels overlap by a factor of two."
)


def collisions(pairs: Sequence[Row]) -> tuple[list[str], np.ndarray]:
    """The classes that collide most; of more than 20 the others are summed up.

    Args:
        pairs: rows of winner, loser, locations.

    Returns:
        C names, and float [C, C], the locations that the row's class has and the column's class loses.
    """
    totals: Counter[str] = Counter()
    for pair in pairs:
        for name in {pair["winner"], pair["loser"]}:
            totals[name] += pair["locations"]
    ranked = sorted(totals, key=lambda name: (-totals[name], name))
    # A single other class has a row of its own.
    shown = ranked if len(ranked) <= MOST_CLASSES + 1 else ranked[:MOST_CLASSES]
    others = len(ranked) - len(shown)
    position = {name: i for i, name in enumerate(shown)}
    matrix = np.zeros((len(shown) + bool(others),) * 2)
    for pair in pairs:
        matrix[position.get(pair["winner"], -1), position.get(pair["loser"], -1)] += pair["locations"]
    return [*map(plain, shown), *([f"{others:,} other classes"] if others else [])], matrix


def draw_collisions(axes: "Axes", names: Sequence[str], matrix: np.ndarray) -> None:
    """`collisions` as a matrix, coloured on a log scale, with the counts in it."""
    edges = np.arange(len(names) + 1)
    cells = _draw_counts(axes, edges, edges, matrix, "locations")
    cells.set(edgecolor="white", linewidth=1)
    strong = matrix.max() ** 0.5
    size = 7.5 if len(names) > 8 else 10
    for row, column in zip(*np.nonzero(matrix), strict=True):
        count = matrix[row, column]
        color = "white" if count > strong else "black"
        axes.text(column + 0.5, row + 0.5, short(count), ha="center", va="center", color=color, fontsize=size)
    axes.set_xticks(edges[:-1] + 0.5, names, fontsize=9, rotation=45, ha="right", rotation_mode="anchor")
    axes.set_yticks(edges[:-1] + 0.5, names, fontsize=9)
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.invert_yaxis()
    axes.set_ylabel("has the location: class of the smaller box")
    axes.set_xlabel("loses it: class of the larger box")


def draw_sizes(axes: "Axes", boxes: np.ndarray, levels: Sequence[Row]) -> None:
    """Widths and heights of boxes, coloured on a log scale, and lines where the levels that may learn them change.

    Args:
        boxes: float [T, 4] xyxy, pixels of the network's input; those without a side are left out.
        levels: rows of name, lower, upper (pixels; None: no end).
    """
    corners = np.asarray(boxes, np.float64).reshape(-1, 4)
    sides = corners[:, 2:] - corners[:, :2]
    sides = sides[(sides > 0).all(axis=1)]
    if not len(sides):
        say_in(axes, "no boxes")
        return
    low, high = sides.min() / 1.15, sides.max() * 1.15
    if high < 16 * low:
        low, high = sqrt(low * high) / 4, sqrt(low * high) * 4
    edges = np.geomspace(low, high, BINS + 1)
    _draw_counts(axes, edges, edges, np.histogram2d(sides[:, 1], sides[:, 0], [edges, edges])[0], "boxes")
    axes.set(xscale="log", yscale="log", aspect="equal", xlim=(low, high), ylim=(low, high))
    octaves = np.arange(np.ceil(np.log2(low)), np.floor(np.log2(high)) + 1)
    ticks = 2.0 ** octaves[:: len(octaves) // 12 + 1]
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_ticks([], minor=True)
        axis.set_ticks(ticks, [f"{tick:g}" if tick >= 1 else f"{tick:.2g}" for tick in ticks])
    tidy(axes)
    for lower, upper, names in bands(levels):
        if low < upper < high:
            axes.plot([low, upper, upper], [upper, upper, low], color=ORANGE, linewidth=1.1)
        lower, upper = max(lower, low), min(upper, high)
        if upper > lower * (high / low) ** 0.04:
            place = low * (high / low) ** 0.015, sqrt(lower * upper)
            axes.text(*place, names, color=DARK_ORANGE, fontsize=9, fontweight="bold", va="center")
    axes.set_title(RANGES, color=DARK_ORANGE, fontsize=9, loc="left")
    axes.set_xlabel("width, pixels of the network's input")
    axes.set_ylabel("height, pixels of the network's input")


def bands(levels: Iterable[Row]) -> list[tuple[float, float, str]]:
    """Which levels may learn a box, by its longer side: (lower, upper, names) from 0 to infinity.

    A location inside a box of longer side m is m / 2 to m away from the farthest side.
    """
    reach = [(row["name"], row["lower"], inf if row["upper"] is None else 2 * row["upper"]) for row in levels]
    ends = sorted({0.0, inf, *(end for _, *both in reach for end in both)})
    merged: list[tuple[float, float, str]] = []
    for lower, upper in pairwise(ends):
        names = " ".join(name for name, first, last in reach if first <= lower and upper <= last) or "none"
        if merged and merged[-1][2] == names:
            lower = merged.pop()[0]
        merged.append((lower, upper, names))
    return merged


def _draw_counts(axes: "Axes", x: np.ndarray, y: np.ndarray, counts: np.ndarray, unit: str) -> "QuadMesh":
    """Cells between `x` and `y`, empty ones left white, with their scale."""
    from matplotlib.colors import LinearSegmentedColormap, LogNorm

    shades = LinearSegmentedColormap.from_list("counts", SHADES)
    norm = LogNorm(1, max(10.0, float(counts.max())))
    cells = axes.pcolormesh(x, y, np.ma.masked_equal(counts, 0), norm=norm, cmap=shades)
    bar = axes.figure.colorbar(cells, ax=axes, fraction=0.05, pad=0.02, format=lambda count, _: short(count))
    bar.outline.set_visible(False)
    bar.minorticks_off()
    bar.set_label(unit)
    return cells
