"""The pictures of training and evaluation: curves and bars as PNG files."""

import itertools
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from fcos_cli.report.figures import (
    BLUE,
    GRAY,
    GREEN,
    ORANGE,
    PURPLE,
    RED,
    Row,
    add_legend,
    new_figure,
    plain,
    save_figure,
    tidy,
)

TERM_COLORS = (BLUE, ORANGE, GREEN, RED, PURPLE)
MOST_CLASSES = 120


def plot_training(rows: Sequence[Row], terms: Sequence[str], path: str | Path) -> Path:
    """The losses, the learning rate and the AP of a run over its iterations.

    Args:
        rows: of metrics.jsonl. Training rows hold iteration, loss, each of the terms, lr; evaluation rows iteration,
            AP, AP50 (fractions). Values that are missing or not finite leave a gap.
        terms: names of the losses that add up to the loss.
        path: the PNG file to write.

    Returns:
        `path`.
    """
    figure = new_figure(9, 8)
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1, 2))
    for axes in (top, middle, bottom):
        tidy(axes)

    x, y = _series(rows, "loss")
    top.plot(x, y, color=GRAY, alpha=0.35, linewidth=0.8)
    top.plot(x, _smooth(y), color="black", linewidth=1.6, label="total")
    for name, color in zip(terms, itertools.cycle(TERM_COLORS), strict=False):
        x, y = _series(rows, name)
        if any(y):
            top.plot(x, _smooth(y), color=color, linewidth=1.3, label=name)
    top.set_ylabel("loss")
    add_legend(top)

    middle.plot(*_series(rows, "lr"), color=BLUE, linewidth=1.3)
    middle.set_ylim(bottom=0)
    middle.set_ylabel("learning rate")
    middle.ticklabel_format(axis="y", style="sci", scilimits=(-3, 3))

    for name, color in (("AP50", ORANGE), ("AP", BLUE)):
        x, y = _series(rows, name)
        bottom.plot(x, y, color=color, marker="o", markersize=4, linewidth=1.3, label=name)
        if x:
            bottom.annotate(
                f"{y[-1]:.3f}", (x[-1], y[-1]), (0, 6), textcoords="offset points", ha="right", color=color, fontsize=9
            )
    bottom.set_ylim(0, 1.05)
    bottom.set_ylabel("AP")
    bottom.set_xlabel("iteration")
    add_legend(bottom)
    return save_figure(figure, path)


def plot_per_class(rows: Iterable[tuple[str, float | None, float | None, int]], path: str | Path) -> Path:
    """AP and AP50 of each class as bars, the best on top, with its number of objects.

    Args:
        rows: (name, AP, AP50, boxes) as `Evaluation.per_class`; classes without objects (AP None) are left out, and of
            more than 120 classes the worst 120 are shown.
        path: the PNG file to write.
    """
    ranked = sorted((r for r in rows if r[1] is not None), key=lambda r: (r[1] or 0.0, r[0]))
    shown = ranked[:MOST_CLASSES]
    figure = new_figure(8, 1.4 + 0.22 * max(len(shown), 4))
    axes = figure.subplots()
    tidy(axes)
    positions = range(len(shown))
    axes.barh(positions, [r[2] or 0.0 for r in shown], color=BLUE, alpha=0.3, height=0.75, label="AP50")
    axes.barh(positions, [r[1] or 0.0 for r in shown], color=BLUE, height=0.75, label="AP")
    axes.set_yticks(list(positions), [f"{plain(name)}  ({boxes:,})" for name, _, _, boxes in shown], fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.6, max(len(shown), 1) - 0.4)
    axes.set_xlabel("AP (objects in brackets)")
    if len(shown) < len(ranked):
        axes.set_title(f"the {len(shown)} classes of lowest AP out of {len(ranked)}", fontsize=10)
    add_legend(axes, "lower right")
    return save_figure(figure, path)


def _series(rows: Sequence[Row], key: str) -> tuple[list[float], list[float]]:
    """(iterations, values) of the rows that have a finite `key`; a resumed run's later row replaces the earlier."""
    points: dict[float, float] = {}
    for row in rows:
        value = row.get(key)
        if isinstance(value, int | float) and math.isfinite(value) and "iteration" in row:
            points[row["iteration"]] = float(value)
    return sorted(points), [points[x] for x in sorted(points)]


def _smooth(values: Sequence[float]) -> list[float]:
    """An exponential average over about a fiftieth of the points, without the start's bias."""
    keep = 1 - 1 / max(1.0, len(values) / 50)
    total = weight = 0.0
    smoothed = []
    for value in values:
        total, weight = keep * total + (1 - keep) * value, keep * weight + (1 - keep)
        smoothed.append(total / weight)
    return smoothed
