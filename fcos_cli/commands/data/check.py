"""`fcos data check`."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcos_cli.errors import DataError
from fcos_cli.report import console

if TYPE_CHECKING:
    from fcos_cli.data.check import DataReport

_SHOWN_CLASSES = 30
_SHOWN_ERRORS = 20


def check(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A name (coco, shapes), a folder or an annotation file.")],
    split: Annotated[str | None, typer.Option("--split", help="Only this split; all of them by default.")] = None,
    images: Annotated[bool, typer.Option("--images", help="Decode every image too.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Counts, and what is wrong with the annotations and images. Exit code 3 where the data cannot be used as it is."""
    from fcos_cli.data.check import check_data, check_together
    from fcos_cli.data.datasets import find_splits, open_data

    layout, splits = find_splits(data)
    opened = {name: open_data(data, name) for name in splits} if split is None else {split: open_data(data, split)}
    reports = []
    for part in opened.values():
        if images:
            with console.progress(f"decoding {part.name}", len(part)) as advance:
                reports.append(check_data(part, decode=True, advance=advance))
        else:
            reports.append(check_data(part))
    together = check_together(opened)
    sound = not any(report.errors for report in reports)
    if as_json:
        content = [report.to_json() for report in reports]
        console.print_json(
            {"data": data, "layout": layout, "sound": sound, "splits": content, "between_splits": together}
        )
    else:
        _show(reports, f"{data} ({layout}, images in {', '.join(sorted({report.root for report in reports}))})")
        for line in together:
            console.warn(line)
        if sound:
            console.say("nothing stands in the way of using this data" + _image_hint(data, images))
    if not sound:
        raise typer.Exit(DataError.exit_code)


def _show(reports: Sequence["DataReport"], title: str) -> None:
    def row(name: str, value: Callable[["DataReport"], int]) -> list[str]:
        return [name, *(f"{value(report):,}" for report in reports)]

    names = [report.name for report in reports]
    rows = [
        row("images", lambda report: report.images),
        row("images without boxes", lambda report: report.empty_images),
        row("boxes", lambda report: report.boxes),
        row("crowd or ignore regions", lambda report: report.crowd),
        row("boxes below 8 pixels", lambda report: report.below_8px),
        row("classes", lambda report: len(report.classes)),
    ]
    console.print_table(title, ["", *names], rows)
    counts = {(report.name, item.id): item for report in reports for item in report.classes}
    classes = {(item.id, item.name): 0 for report in reports for item in report.classes}
    for report in reports:
        for item in report.classes:
            classes[item.id, item.name] += item.boxes
    if classes:
        ordered = sorted(classes, key=lambda key: -classes[key])
        table = []
        for category, name in ordered[:_SHOWN_CLASSES]:
            items = [counts.get((report.name, category)) for report in reports]
            cells = [f"{item.boxes:,} ({item.images:,})" if item is not None else "-" for item in items]
            table.append([name, category, *cells])
        if len(ordered) > _SHOWN_CLASSES:
            table.append([f"... {len(ordered) - _SHOWN_CLASSES} more (--json lists all)", *[""] * (len(names) + 1)])
        console.print_table("Boxes of each class (images with one)", ["class", "id", *names], table)
    for report in reports:
        for line in report.warnings:
            console.warn(f"{report.name}: {line}")
        for line in report.errors[:_SHOWN_ERRORS]:
            console.fail(f"{report.name}: {line}")
        if len(report.errors) > _SHOWN_ERRORS:
            console.fail(f"{report.name}: {len(report.errors) - _SHOWN_ERRORS} more (--json lists all)")


def _image_hint(data: str, decoded: bool) -> str:
    return "" if decoded or not Path(data).exists() else f"; to decode the images too: fcos data check {data} --images"
