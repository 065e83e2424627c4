"""Curves and bars as PNG files. matplotlib is imported on use, needs no display, and shares no global state."""

import logging
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fcos_cli.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]

BLUE, ORANGE, GREEN, GRAY = "#3465a4", "#e07b28", "#4e9a3a", "#8a8f98"
LOSSES = (("classification", BLUE), ("box", ORANGE), ("quality", GREEN))
DOTS_PER_INCH = 120
MOST_CLASSES = 120


def plot_training(rows: Sequence[Row], path: str | Path) -> Path:
    """The losses, the learning rate and the AP of a run over its iterations.

    Args:
        rows: of metrics.jsonl. Training rows hold iteration, loss, classification, box, quality, lr; evaluation rows
            iteration, AP, AP50 (fractions). Values that are missing or not finite leave a gap.
        path: the PNG file to write.

    Returns:
        `path`.
    """
    figure = _figure(9, 8)
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=(3, 1, 2))

    x, y = _series(rows, "loss")
    top.plot(x, y, color=GRAY, alpha=0.35, linewidth=0.8)
    top.plot(x, _smooth(y), color="black", linewidth=1.6, label="total")
    for name, color in LOSSES:
        x, y = _series(rows, name)
        if any(y):
            top.plot(x, _smooth(y), color=color, linewidth=1.3, label=name)
    top.set_ylabel("loss")
    _legend(top)

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
    _legend(bottom)
    return _save(figure, path)


def plot_per_class(rows: Iterable[tuple[str, float | None, float | None, int]], path: str | Path) -> Path:
    """AP and AP50 of each class as bars, the best on top, with its number of objects.

    Args:
        rows: (name, AP, AP50, boxes) as `Evaluation.per_class`; classes without objects (AP None) are left out, and of
            more than 120 classes the worst 120 are shown.
        path: the PNG file to write.
    """
    ranked = sorted((r for r in rows if r[1] is not None), key=lambda r: (r[1] or 0.0, r[0]))
    shown = ranked[:MOST_CLASSES]
    figure = _figure(8, 1.4 + 0.22 * max(len(shown), 4))
    axes = figure.subplots()
    positions = range(len(shown))
    axes.barh(positions, [r[2] or 0.0 for r in shown], color=BLUE, alpha=0.3, height=0.75, label="AP50")
    axes.barh(positions, [r[1] or 0.0 for r in shown], color=BLUE, height=0.75, label="AP")
    axes.set_yticks(list(positions), [f"{name}  ({boxes:,})" for name, _, _, boxes in shown], fontsize=8)
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.6, max(len(shown), 1) - 0.4)
    axes.set_xlabel("AP (objects in brackets)")
    if len(shown) < len(ranked):
        axes.set_title(f"the {len(shown)} classes of lowest AP out of {len(ranked)}", fontsize=10)
    _legend(axes, "lower right")
    return _save(figure, path)


def plot_recall_by_side(bins: Sequence[Row], path: str | Path, *, title: str = "") -> Path:
    """Best possible recall against the side length of the boxes, over a histogram of the boxes.

    Args:
        bins: rows of lower, upper (pixels; None: no end), boxes, recalled, as `Coverage.by_side`.
        path: the PNG file to write.
        title: above the picture.
    """
    figure = _figure(8, 4.5)
    axes = figure.subplots()
    positions = list(range(len(bins)))
    counts = axes.twinx()
    counts.bar(positions, [b["boxes"] for b in bins], color=GRAY, alpha=0.3, width=0.9)
    counts.set_ylabel("boxes", color=GRAY)
    counts.grid(visible=False)
    filled = [(i, 100 * b["recalled"] / b["boxes"]) for i, b in enumerate(bins) if b["boxes"]]
    axes.plot([i for i, _ in filled], [v for _, v in filled], color=BLUE, marker="o", linewidth=1.6)
    for i, value in filled:
        axes.annotate(f"{value:.1f}", (i, value), (0, 6), textcoords="offset points", ha="center", fontsize=8)
    axes.set_zorder(counts.get_zorder() + 1)
    axes.set_facecolor("none")
    labels = [
        f"{b['lower']:g} - {b['upper']:g}" if b["upper"] is not None else f"{b['lower']:g} and more" for b in bins
    ]
    axes.set_xticks(positions, labels, fontsize=8, rotation=30, ha="right")
    axes.set_ylim(0, 108)
    axes.set_ylabel("best possible recall, %", color=BLUE)
    axes.set_xlabel("side of the box (square root of its area), pixels of the original image")
    if title:
        axes.set_title(title, fontsize=11)
    return _save(figure, path)


def _figure(width: float, height: float) -> "Figure":
    # Without a writable cache folder matplotlib works all the same, but says so at length.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: "Figure", path: str | Path) -> Path:
    for axes in figure.axes:
        axes.spines["top"].set_visible(False)
        if axes.get_ylabel() != "boxes":
            axes.spines["right"].set_visible(False)
            axes.grid(visible=True, color="#e3e6ea", linewidth=0.7)
            axes.set_axisbelow(True)
    with atomic_file(path) as file:
        figure.savefig(file, format="png")
    return Path(path)


def _legend(axes: "Axes", place: Literal["best", "lower right"] = "best") -> None:
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc=place, fontsize=9, frameon=False)


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
