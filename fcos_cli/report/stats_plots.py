"""The pictures of `fcos stats`, as PNG files: what an assignment learns of a data set, by size, class and level."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fcos_cli.report.figures import (
    BLUE,
    GRAY,
    ORANGE,
    PALE_BLUE,
    PALE_GRAY,
    PALE_ORANGE,
    Row,
    fold,
    new_figure,
    plain,
    save_figure,
    say_in,
    short,
    tick_text,
    tidy,
)
from fcos_cli.report.heat_maps import collisions, draw_collisions, draw_sizes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL = 8
FEWEST_ROWS = 4
COLUMNS = {
    "published": ("published", GRAY),
    "exact": ("exact boxes", BLUE),
    "paper": ("the paper's inclusive pixels", PALE_BLUE),
}


def plot_recall_by_side(bins: Sequence[Row], path: str | Path, *, title: str = "") -> Path:
    """Best possible recall against the side length of the boxes, above a histogram of the boxes.

    Args:
        bins: rows of lower, upper (pixels; None: no end), boxes, recalled, as in `Coverage.recall`.
        path: the PNG file to write.
        title: above the picture.

    Returns:
        `path`.
    """
    figure = new_figure(9, 5, title)
    recall, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
    positions, boxes = range(len(bins)), [row["boxes"] for row in bins]
    filled = [i for i in positions if boxes[i]]
    values = [100 * bins[i]["recalled"] / boxes[i] for i in filled]
    recall.plot(filled, values, color=BLUE, marker="o", markersize=5, linewidth=1.6)
    for i, at in enumerate(zip(filled, values, strict=True)):
        # Where the line rises on both sides the value goes below it.
        beside = values[max(i - 1, 0) : i] + values[i + 1 : i + 2]
        place = (0, -15 if beside and at[1] < min(beside) else 7)
        recall.annotate(_percent(at[1]), at, place, textcoords="offset points", ha="center", fontsize=SMALL)
    # Where nearly all is recalled the axis begins just below the lowest point.
    below = 1 + 1.15 * (100 - min(values, default=0.0))
    recall.set_ylim(100 - below, 100 + 0.14 * below)
    recall.set_ylabel("best possible recall, %")
    bars = counts.bar(positions, boxes, 0.85, color=PALE_BLUE)
    counts.bar_label(bars, [short(count) for count in boxes], padding=2, fontsize=SMALL)
    counts.set_ylim(0, 1.2 * max(boxes, default=0) or 1)
    counts.locator_params(axis="y", nbins=4, integer=True)
    counts.yaxis.set_major_formatter(tick_text)
    counts.set_ylabel("boxes")
    counts.set_xticks(positions, [_range(row) for row in bins], fontsize=SMALL)
    counts.set_xlabel("side of the box (square root of its area), pixels of the original image")
    for axes in (recall, counts):
        tidy(axes, "y")
    return save_figure(figure, path)


def plot_collisions(ambiguity: Mapping[str, Any], path: str | Path, *, title: str = "") -> Path:
    """Which classes collide at ambiguous locations, as a matrix of counts, beside the ambiguous share by level.

    Args:
        ambiguity: as `LocationCoverage.ambiguity`: by_level, rows of name, positives, ambiguous, cross_class; pairs,
            rows of winner, loser, locations. Of more than 20 classes those that collide most are shown, and the others
            summed up.
        path: the PNG file to write.
        title: above the picture.

    Returns:
        `path`.
    """
    names, matrix = collisions(ambiguity["pairs"])
    side = min(max(0.42 * len(names), 3.6), 8.8)
    figure = new_figure(side + 6, side + 1.9, title)
    grid = figure.add_gridspec(2, 2, width_ratios=(side + 1, 2.6), height_ratios=(3.6, side - 3.3))
    classes, levels = figure.add_subplot(grid[:, 0]), figure.add_subplot(grid[0, 1])
    if names:
        draw_collisions(classes, names, matrix)
    else:
        say_in(classes, "no location may have several boxes")
    _draw_ambiguous(levels, ambiguity["by_level"], "positives")
    levels.legend(loc="upper left", bbox_to_anchor=(-0.02, -0.1), fontsize=9, frameon=False)
    return save_figure(figure, path)


def plot_tables(
    columns: Mapping[str, Mapping[str, Mapping[str, float | None]]],
    labels: Mapping[str, Mapping[str, str]],
    path: str | Path,
    *,
    titles: Mapping[str, str],
) -> Path:
    """The paper's Tables 1 and 2 as bars, one panel a table.

    Args:
        columns: by name (published, exact, paper), each with its tables, each with percent or None by key.
        labels: by table, a text for each key.
        path: the PNG file to write.
        titles: by table.

    Returns:
        `path`.
    """
    rows = [len(texts) for texts in labels.values()]
    figure = new_figure(9, 1.6 + 0.2 * (len(columns) + 1) * sum(rows))
    panels = figure.subplots(len(rows), 1, height_ratios=rows, squeeze=False)[:, 0]
    for axes, (table, texts) in zip(panels, labels.items(), strict=True):
        height = 0.8 / max(len(columns), 1)
        for number, (name, column) in enumerate(columns.items()):
            values = [column[table].get(key) for key in texts]
            label, color = COLUMNS.get(name, (name, ORANGE))
            places = np.arange(len(texts)) + (number - (len(columns) - 1) / 2) * height
            bars = axes.barh(places, [value or 0.0 for value in values], 0.9 * height, color=color, label=label)
            axes.bar_label(bars, [_percent(value) for value in values], padding=3, fontsize=SMALL)
        _name_rows(axes, list(texts.values()))
        axes.set_title(plain(titles[table], 90), fontsize=11, loc="left")
    if len(columns) > 1:
        figure.legend(*panels[0].get_legend_handles_labels(), loc="outside lower right", ncols=3, frameon=False)
    return save_figure(figure, path)


def plot_boxes(boxes: np.ndarray, levels: Sequence[Row], path: str | Path, *, title: str = "") -> Path:
    """How large boxes are and which levels may learn them, beside the boxes and positive locations of each level.

    Args:
        boxes: float [T, 4] xyxy, pixels of the network's input.
        levels: rows of name, lower, upper (pixels; None: no end), boxes, positives, positives_per_box.
        path: the PNG file to write.
        title: above the picture.

    Returns:
        `path`.
    """
    figure = new_figure(12, 6.4, title)
    grid = figure.add_gridspec(2, 2, width_ratios=(3, 2))
    sizes, learnt, positives = (figure.add_subplot(grid[place]) for place in (np.s_[:, 0], np.s_[0, 1], np.s_[1, 1]))
    draw_sizes(sizes, boxes, levels)
    names = [f"{row['name']}: {_range(row)}" for row in levels]
    ratios = ["" if row["positives_per_box"] is None else f"{row['positives_per_box']:.1f} a box" for row in levels]
    panels = (
        (learnt, "boxes", PALE_BLUE, "boxes learnt on a level (a box may be on several)", [""] * len(levels)),
        (positives, "positives", BLUE, "locations that learn a box", ratios),
    )
    for axes, key, color, about, remarks in panels:
        bars = axes.barh(range(len(levels)), [row[key] for row in levels], 0.7, color=color)
        texts = [f"{row[key]:,}\n{remark}".strip() for row, remark in zip(levels, remarks, strict=True)]
        axes.bar_label(bars, texts, padding=3, fontsize=SMALL)
        axes.set_title(about, fontsize=10, loc="left")
        _name_rows(axes, names)
    return save_figure(figure, path)


def plot_advice(missed: Mapping[str, Any], tried: Sequence[Row], path: str | Path, *, title: str = "") -> Path:
    """Why boxes are missed, and what each change recovers and loses, with its recall and its cost.

    Args:
        missed: as `Advice.missed`: boxes, missed, bpr and ambiguous_percent, by_reason, rows of reason, boxes.
        tried: as `Advice.tried`: rows of change, recovered, lost, bpr and ambiguous_percent after it, locations (how
            many times as many).
        path: the PNG file to write.
        title: above the picture.

    Returns:
        `path`.
    """
    reasons = missed["by_reason"]
    figure = new_figure(13, 1.9 + 0.42 * max(len(tried) + 1, len(reasons), 4), title)
    why, what, after = figure.subplots(1, 3, width_ratios=(8, 12, 7))
    bars = why.barh(range(len(reasons)), [row["boxes"] for row in reasons], 0.6, color=GRAY)
    why.bar_label(bars, [_with_share(row["boxes"], missed["boxes"]) for row in reasons], padding=3, fontsize=SMALL)
    why.set_title(f"{missed['missed']:,} of {missed['boxes']:,} boxes are missed", fontsize=10, loc="left")
    _name_rows(why, [row["reason"] for row in reasons])

    rows = [{**missed, "change": "no change", "recovered": 0, "lost": 0, "locations": 1.0}, *tried]
    for key, sign, color in (("recovered", 1, BLUE), ("lost", -1, ORANGE)):
        counts = [sign * row[key] for row in rows]
        bars = what.barh(range(len(rows)), counts, 0.6, color=color, label=key)
        what.bar_label(bars, [f"{count:+,}" if count else "" for count in counts], padding=3, fontsize=SMALL)
    what.axvline(0, color=GRAY, linewidth=0.8)
    what.set_title("boxes that a change recovers, and that it loses", fontsize=10, loc="left")
    _name_rows(what, [row["change"] for row in rows])
    _write_column(after, 0.22, ["recall\nafter it, %", *(_percent(row["bpr"]) for row in rows)])
    _write_column(after, 0.66, ["ambiguous\nafter it, %", *(_percent(row["ambiguous_percent"]) for row in rows)])
    _write_column(after, 1.0, ["locations", *(f"x {row['locations']:,.2f}" for row in rows)])
    after.set_ylim(what.get_ylim())
    after.set_axis_off()
    figure.legend(*what.get_legend_handles_labels(), loc="outside lower right", ncols=2, fontsize=9, frameon=False)
    return save_figure(figure, path)


def plot_detections(levels: Sequence[Row], path: str | Path, *, title: str = "") -> Path:
    """Detections by level and by how many boxes their locations may have, beside the ambiguous share.

    Args:
        levels: rows of name, lower, upper (pixels; None: no end), detections, positive, ambiguous, cross_class.
        path: the PNG file to write.
        title: above the picture.

    Returns:
        `path`.
    """
    figure = new_figure(11, 1.8 + 0.5 * max(len(levels), 4), title)
    counts, shares = figure.subplots(1, 2, width_ratios=(3, 2))
    parts: tuple[tuple[str, str, Callable[[Row], int]], ...] = (
        ("no box", PALE_GRAY, lambda row: row["detections"] - row["positive"]),
        ("one box", BLUE, lambda row: row["positive"] - row["ambiguous"]),
        ("several, of one class", PALE_ORANGE, lambda row: row["ambiguous"] - row["cross_class"]),
        ("several, of different classes", ORANGE, lambda row: row["cross_class"]),
    )
    ends = np.zeros(len(levels))
    for label, color, count in parts:
        widths = np.array([count(row) for row in levels], float)
        bars = counts.barh(range(len(levels)), widths, 0.6, ends, color=color, label=label)
        ends += widths
    counts.bar_label(bars, [f"{row['detections']:,}" for row in levels], padding=3, fontsize=SMALL)
    _name_rows(counts, [f"{row['name']}: {_range(row)}" for row in levels])
    counts.set_title("detections, by how many boxes their location may have", fontsize=10, loc="left")
    _draw_ambiguous(shares, levels, "detections")
    figure.legend(*counts.get_legend_handles_labels(), loc="outside lower left", ncols=4, fontsize=9, frameon=False)
    return save_figure(figure, path)


def _draw_ambiguous(axes: "Axes", levels: Sequence[Row], of: str) -> None:
    """The ambiguous share of `of`, by level and of all levels, split by whether classes differ."""
    keys = (of, "ambiguous", "cross_class")
    rows = [*levels, {"name": "all", **{key: sum(row[key] for row in levels) for key in keys}}]
    whole, ambiguous, cross = (np.array([row[key] for row in rows], float) for key in keys)
    total, differ = (100 * part / np.maximum(whole, 1) for part in (ambiguous, cross))
    places = range(len(rows))
    axes.barh(places, differ, 0.6, color=ORANGE, label="of different classes")
    bars = axes.barh(places, total - differ, 0.6, differ, color=PALE_ORANGE, label="of one class")
    texts = [_percent(share if count else None) for share, count in zip(total, whole, strict=True)]
    axes.bar_label(bars, texts, padding=3, fontsize=SMALL)
    _name_rows(axes, [row["name"] for row in rows])
    axes.axhline(len(levels) - 0.5, color=GRAY, linewidth=0.8)
    axes.set_title(f"ambiguous, % of {of}", fontsize=10, loc="left")


def _name_rows(axes: "Axes", names: Sequence[str]) -> None:
    """Puts names to horizontal bars, the first on top, and leaves room for the texts at their ends."""
    axes.set_yticks(range(len(names)), [fold(plain(name, 60)) for name in names], fontsize=9)
    middle, half = (len(names) - 1) / 2, max(len(names), FEWEST_ROWS) / 2
    axes.set_ylim(middle + half, middle - half)
    low, high = min(axes.dataLim.x0, 0.0), max(axes.dataLim.x1, 0.0)
    room = 0.25 * (high - low) if high - low > 1e-6 else 1.0
    axes.set_xlim(low - room if low else 0.0, high + room)
    axes.locator_params(axis="x", nbins=5, integer=True)
    axes.xaxis.set_major_formatter(tick_text)
    axes.tick_params(axis="x", labelsize=9)
    axes.tick_params(axis="y", length=0)
    tidy(axes, "x")


def _write_column(axes: "Axes", right: float, texts: Sequence[str]) -> None:
    """A head above the axes and a text for each row, which end at `right`, a fraction of the axes' width."""
    head, *others = texts
    axes.text(right, 1.02, head, color=GRAY, fontsize=9, ha="right", va="bottom", transform=axes.transAxes)
    for row, text in enumerate(others):
        axes.text(right, row, text, fontsize=9, ha="right", va="center", transform=axes.get_yaxis_transform())


def _range(row: Row) -> str:
    return f"{row['lower']:g}+" if row["upper"] is None else f"{row['lower']:g}-{row['upper']:g}"


def _with_share(part: int, whole: int) -> str:
    return f"{part:,}  ({_percent(100 * part / whole)} %)" if part else "0"


def _percent(value: float | None) -> str:
    """Two decimals; nothing but all is 100, and nothing but nothing is 0."""
    if value is None:
        return "-"
    return f"{value:g}" if value in (0, 100) else f"{min(value, 99.99):.2f}"
