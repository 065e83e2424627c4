"""`fcos stats`: what an assignment can and cannot learn of a data set, before a single training step."""

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcos_cli.errors import UsageError
from fcos_cli.report import console

if TYPE_CHECKING:
    from fcos_cli.data.records import DetectionData
    from fcos_cli.stats.boxes import Setting
    from fcos_cli.stats.coverage import Coverage

app = typer.Typer(help="What an assignment can and cannot learn of a data set.", no_args_is_help=True)

NAMED_LEVELS = {"fpn": (3, 4, 5, 6, 7)}
WORST_CLASSES = 10


class Convention(StrEnum):
    """How pixels are counted."""

    exact = "exact"
    paper = "paper"


Data = Annotated[str, typer.Option("--data", help="A name, a folder or an annotation file.", show_default=False)]
Split = Annotated[str | None, typer.Option("--split", help="train, val, test, ...", show_default=False)]
Pixels = Annotated[
    Convention,
    typer.Option("--convention", help="exact: what training uses. paper: the authors' inclusive pixels."),
]
Levels = Annotated[
    str | None,
    typer.Option("--levels", help="fpn, p4, or numbers such as 3,4,5 (default: the recipe's, or fpn)."),
]
RecipeName = Annotated[
    str | None,
    typer.Option("--recipe", help="Take levels, ranges, sizes and centre sampling from it.", show_default=False),
]
Short = Annotated[int | None, typer.Option("--short", min=1, help="Short side in pixels (default: recipe's, or 800).")]
Long = Annotated[int | None, typer.Option("--long", min=1, help="Longest side in pixels (default: recipe's, or 1333).")]
Radius = Annotated[
    float | None,
    typer.Option("--center-sampling", min=0, help="Radius in strides, 0 is off (default: the recipe's, or 0)."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("bpr")
def bpr(
    data: Data,
    split: Split = None,
    convention: Pixels = Convention.exact,
    levels: Levels = None,
    recipe: RecipeName = None,
    short: Short = None,
    long: Long = None,
    center_sampling: Radius = None,
    list_file: Annotated[
        Path | None,
        typer.Option("--list", help="Write the boxes that no location learns to a CSV file.", show_default=False),
    ] = None,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw recall against side length (PNG).", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Best possible recall: the share of boxes that at least one location is assigned to (the paper's Table 1)."""
    from fcos_cli.files import check_writable

    for path in (list_file, plot):
        if path is not None:
            check_writable(path)
    setting = _setting(convention, levels, recipe, short, long, center_sampling)
    found, covered = _cover(data, split, setting, side_by_side=not as_json)
    coverage = covered[convention.value]
    if list_file is not None:
        _write_boxes(list_file, found, coverage.missed.tolist())
    if plot is not None:
        from fcos_cli.report.plots import plot_recall_by_side

        title = f"{found.name}: best possible recall {coverage.recall['bpr']:.2f} % ({convention.value})"
        plot_recall_by_side(coverage.recall["by_side"], plot, title=title)
    if as_json:
        console.print_json({**_about(found, coverage), **coverage.recall})
        return
    _show_bpr(found, coverage, list(covered.values()))
    if list_file is not None:
        console.say(f"{len(coverage.missed)} boxes that no location learns: {list_file}")
    if plot is not None:
        console.say(f"recall against side length: {plot}")


@app.command("ambiguity")
def ambiguity(
    data: Data,
    split: Split = None,
    convention: Pixels = Convention.exact,
    levels: Levels = None,
    recipe: RecipeName = None,
    short: Short = None,
    long: Long = None,
    center_sampling: Radius = None,
    as_json: Json = False,
) -> None:
    """Ambiguous locations: the share of positives that lie in several boxes of their level (the paper's Table 2)."""
    setting = _setting(convention, levels, recipe, short, long, center_sampling)
    found, covered = _cover(data, split, setting, side_by_side=not as_json)
    coverage = covered[convention.value]
    if as_json:
        console.print_json({**_about(found, coverage), **coverage.ambiguity})
        return
    figures = [c.ambiguity for c in covered.values()]
    console.print_table(
        f"Ambiguous locations: {found.name}, {_describe(setting)}",
        ("", *(name for name in covered)),
        [
            _line("positive locations", figures, "positives"),
            _line("ambiguous", figures, "ambiguous"),
            _line("ambiguous, % of positives", figures, "ambiguous_percent"),
            _line("of different classes", figures, "cross_class"),
            _line("of different classes, % of positives", figures, "cross_class_percent"),
        ],
    )
    console.print_table(
        f"By level ({convention.value})",
        ("level", "range", "positives", "ambiguous %", "classes differ %"),
        [
            (
                row["name"],
                _range(row),
                f"{row['positives']:,}",
                _figure(row["ambiguous_percent"]),
                _figure(row["cross_class_percent"]),
            )
            for row in coverage.ambiguity["by_level"]
        ],
    )
    _say_dropped(coverage)


def _setting(
    convention: Convention,
    levels: str | None,
    recipe: str | None,
    short: int | None,
    long: int | None,
    radius: float | None,
) -> "Setting":
    """The recipe's setting, or the paper's, with what the options say on top.

    Raises:
        RecipeError: the recipe does not hold.
        UsageError: levels that are no run of levels, a radius that is no number, a short side above the long one.
    """
    from fcos_cli.geometry.pyramid import build_pyramid
    from fcos_cli.stats.boxes import Setting

    setting = Setting()
    if recipe is not None:
        from fcos_cli.recipe.load import load_recipe

        setting = Setting.of_recipe(load_recipe(recipe).recipe)
    if levels is not None:
        try:
            setting = replace(setting, pyramid=build_pyramid(_levels(levels), origin=setting.pyramid.origin))
        except ValueError as error:
            raise UsageError(f"--levels {levels}: {error}", "such as fpn, p4 or 3,4,5") from None
    if radius is not None:
        if not radius < float("inf"):
            raise UsageError(f"--center-sampling {radius} is not a radius", "1.5 is usual, 0 is off")
        setting = replace(setting, radius=radius)
    short, long = short or setting.short_side, long or setting.long_side
    if short > long:
        raise UsageError(f"the short side, {short} pixels, is above the long side, {long}", "set both: --short, --long")
    return replace(setting, short_side=short, long_side=long, convention=convention.value)


def _levels(text: str) -> list[int]:
    """fpn, p4, 3,4,5 or p3,p4 -> numbers."""
    if text.lower() in NAMED_LEVELS:
        return list(NAMED_LEVELS[text.lower()])
    parts = [re.fullmatch(r"[pP]?(\d+)", part.strip()) for part in text.split(",")]
    if not all(parts):
        raise ValueError("not a list of levels")
    return [int(part[1]) for part in parts if part]


def _cover(
    data: str, split: str | None, setting: "Setting", *, side_by_side: bool
) -> tuple["DetectionData", dict[str, "Coverage"]]:
    """The data set, and its coverage by convention: both, or the setting's alone."""
    from fcos_cli.data.datasets import open_data
    from fcos_cli.stats.boxes import CONVENTIONS
    from fcos_cli.stats.coverage import cover

    found = open_data(data, split)
    wanted = CONVENTIONS if side_by_side else (setting.convention,)
    with console.progress("images", len(found) * len(wanted)) as step:
        covered: dict[str, Coverage] = {name: cover(found, replace(setting, convention=name), step) for name in wanted}
    return found, covered


def _about(data: "DetectionData", coverage: "Coverage") -> dict[str, Any]:
    setting = coverage.setting
    return {
        "data": data.name,
        "convention": setting.convention,
        "levels": [level.index for level in setting.pyramid.levels],
        "short_side": setting.short_side,
        "long_side": setting.long_side,
        "center_sampling": setting.radius,
        "dropped": coverage.dropped,
    }


def _show_bpr(data: "DetectionData", coverage: "Coverage", side_by_side: Sequence["Coverage"]) -> None:
    figures = [c.recall for c in side_by_side]
    sizes = [{row["name"]: row for row in f["by_size"]} for f in figures]
    rows = [
        _line("images", figures, "images"),
        _line("boxes", figures, "boxes"),
        _line("recalled", figures, "recalled"),
        _line("best possible recall, %", figures, "bpr"),
    ]
    rows += [_line(f"  {name}, %", [by[name] for by in sizes], "bpr") for name in sizes[0]]
    console.print_table(
        f"Best possible recall: {data.name}, {_describe(coverage.setting)}",
        ("", *(c.setting.convention for c in side_by_side)),
        rows,
    )
    console.print_table(
        f"By level ({coverage.setting.convention})",
        ("level", "range", "boxes learnt here", "% of boxes", "positives"),
        [
            (row["name"], _range(row), f"{row['recalled']:,}", _figure(row["percent"]), f"{row['positives']:,}")
            for row in coverage.recall["by_level"]
        ],
    )
    missing = [row for row in coverage.recall["by_class"] if row["recalled"] < row["boxes"]]
    if missing:
        console.print_table(
            f"Classes of lowest recall ({coverage.setting.convention})",
            ("class", "boxes", "recalled", "recall %"),
            [
                (row["name"], f"{row['boxes']:,}", f"{row['recalled']:,}", _figure(row["bpr"]))
                for row in sorted(missing, key=lambda row: row["bpr"])[:WORST_CLASSES]
            ],
        )
    _say_dropped(coverage)


def _line(label: str, figures: Iterable[dict[str, Any]], key: str) -> tuple[str, ...]:
    return (label, *(_figure(f[key]) for f in figures))


def _figure(value: float | None) -> str:
    """Counts with thousands set apart, percent to two decimals, nothing where undefined."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def _range(row: dict[str, Any]) -> str:
    upper = "inf" if row["upper"] is None else f"{row['upper']:g}"
    return f"{row['lower']:g} - {upper}"


def _describe(setting: "Setting") -> str:
    names = setting.pyramid.names
    levels = names[0] if len(names) == 1 else f"{names[0]}-{names[-1]}"
    sampling = f", centre sampling {setting.radius:g}" if setting.radius else ""
    return f"{levels}, {setting.short_side} x {setting.long_side} pixels{sampling}"


def _say_dropped(coverage: "Coverage") -> None:
    if coverage.dropped:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in coverage.dropped.items())
        console.say(f"left out ({coverage.setting.convention}): {reasons}")


def _write_boxes(path: Path, data: "DetectionData", rows: Sequence[int]) -> None:
    """A CSV file of boxes: their ids, images, classes and places (pixels of the original image)."""
    import numpy as np

    from fcos_cli.files import atomic_file

    image_of = np.repeat(np.arange(len(data)), np.diff(data.offsets))
    with atomic_file(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("box_id", "image_id", "file_name", "class", "x", "y", "width", "height"))
        for row in rows:
            image, (x0, y0, x1, y1) = int(image_of[row]), data.boxes[row].tolist()
            place = (f"{value:.6g}" for value in (x0, y0, x1 - x0, y1 - y0))
            name = data.categories.names[data.labels[row]]
            writer.writerow((int(data.box_ids[row]), int(data.image_ids[image]), data.file_names[image], name, *place))
