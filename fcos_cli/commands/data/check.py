"""`fcos data check`."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcos_cli.commands.data.convert import show_written
from fcos_cli.commands.data.options import own_format
from fcos_cli.commands.options import ImageDirOption
from fcos_cli.errors import DataError
from fcos_cli.report import console

if TYPE_CHECKING:
    from fcos_cli.data.check import DataReport
    from fcos_cli.data.doctor.copies import Copies
    from fcos_cli.data.findings import Finding
    from fcos_cli.data.records import DetectionData

_SHOWN_CLASSES = 30
_SHOWN_ERRORS = 20


def check(
    data: Annotated[str, typer.Argument(metavar="DATA", help="A name (coco, shapes), a folder or an annotation file.")],
    split: Annotated[str | None, typer.Option("--split", help="Only this split; all of them by default.")] = None,
    images: Annotated[
        bool, typer.Option("--images", help="Decode every image too, and look for images that look the same.")
    ] = False,
    image_dir: ImageDirOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="What was left out, not read or changed on reading is an error.")
    ] = False,
    fix: Annotated[
        Path | None,
        typer.Option("--fix", metavar="OUT", help="Write a sound copy: what is broken or there twice is left out."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Counts, what was not read, and what is wrong. Exit code 3 where the data cannot be used as they are.

    --fix decodes the images and leaves out: those that are missing or broken, those that a split holds twice, those of
    train that val or test hold too, boxes outside of their image, boxes that are there twice. Boxes end at the border.
    """
    from fcos_cli.data.check import check_data, check_together
    from fcos_cli.data.datasets import find_splits, findings_around, open_data
    from fcos_cli.data.doctor.copies import copies_found
    from fcos_cli.data.findings import Weight, lines
    from fcos_cli.files import check_absent

    if fix is not None:
        check_absent(fix)
        images = True
    layout, splits = find_splits(data)
    there = [name for name in splits if not splits[name].lost] or list(splits)
    opened = {name: open_data(data, name, image_dir=image_dir) for name in (there if split is None else [split])}
    reports = []
    for part in opened.values():
        if images:
            with console.progress(f"decoding {part.name}", len(part)) as advance:
                reports.append(check_data(part, decode=True, advance=advance))
        else:
            reports.append(check_data(part))
    together = check_together(opened)
    between = [*together, *findings_around(data, layout, splits, opened)]
    copies = _copies(opened, images)
    between += copies_found(copies, opened)
    every = [finding for report in reports for finding in report.findings] + between
    sound = not any(report.errors for report in reports) and not lines(every, Weight.ERROR, strict=strict)
    if as_json:
        content = [report.to_json() for report in reports]
        console.print_json(
            {
                "data": data,
                "layout": layout,
                "sound": sound,
                "splits": content,
                "between_splits": [finding.line for finding in together],
                "findings": [finding.to_json() for finding in between],
            }
        )
    else:
        _show(reports, f"{data} ({layout}, images in {', '.join(sorted({report.root for report in reports}))})")
        _tell(reports, between, strict=strict)
        if sound:
            console.say("nothing stands in the way of using this data" + _image_hint(data, images))
    if fix is not None:
        _fix(opened, reports, copies, fix, own_format(layout), quiet=as_json)
    elif not sound:
        raise typer.Exit(DataError.exit_code)


def _fix(
    opened: Mapping[str, "DetectionData"],
    reports: Sequence["DataReport"],
    copies: "Sequence[Copies]",
    out: Path,
    to: str,
    *,
    quiet: bool,
) -> None:
    from fcos_cli.data.convert.converting import convert
    from fcos_cli.data.doctor.fixing import sound_copy

    fixed, found = sound_copy(opened, dict(zip(opened, reports, strict=True)), copies)
    with console.progress("images", sum(map(len, fixed.values()))) as advance:
        written = convert(fixed, out, to, advance=advance)
    written.changed = [*(finding.line for finding in found), *written.changed]
    if not quiet:
        show_written(written, out, as_json=False)


def _copies(opened: Mapping[str, "DetectionData"], decode: bool) -> "list[Copies]":
    from fcos_cli.data.doctor.copies import find_copies

    if not decode:
        return find_copies(opened)
    with console.progress("comparing images", sum(map(len, opened.values()))) as advance:
        return find_copies(opened, near=True, advance=advance)


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
    _show_classes(reports, names)


def _show_classes(reports: Sequence["DataReport"], names: Sequence[str]) -> None:
    """A row for each class name; the ids stand beside it, which may differ between splits."""
    totals: dict[str, int] = {}
    ids: dict[str, dict[int, None]] = {}
    for report in reports:
        for item in report.classes:
            totals[item.name] = totals.get(item.name, 0) + item.boxes
            ids.setdefault(item.name, {})[item.id] = None
    if not totals:
        return
    ordered = sorted(totals, key=lambda name: -totals[name])
    table = []
    for name in ordered[:_SHOWN_CLASSES]:
        cells = []
        for report in reports:
            items = [item for item in report.classes if item.name == name]
            boxes, images = sum(item.boxes for item in items), sum(item.images for item in items)
            cells.append(f"{boxes:,} ({images:,})" if items else "-")
        table.append([name, ", ".join(map(str, ids[name])), *cells])
    if len(ordered) > _SHOWN_CLASSES:
        table.append([f"... {len(ordered) - _SHOWN_CLASSES} more (--json lists all)", *[""] * (len(names) + 1)])
    console.print_table("Boxes of each class (images with one)", ["class", "id", *names], table)


def _tell(reports: Sequence["DataReport"], between: Sequence["Finding"], *, strict: bool) -> None:
    """Notes, then warnings, then errors; `strict` moves the findings of reading from the second to the third."""
    from fcos_cli.data.findings import Weight, lines

    for report in reports:
        for line in lines(report.findings, Weight.NOTE):
            console.say(f"{report.name}: {line}")
    for line in lines(between, Weight.NOTE):
        console.say(line)
    refused = {report.name: lines(report.findings, Weight.WARNING) if strict else [] for report in reports}
    for report in reports:
        for line in report.warnings:
            if line not in refused[report.name]:
                console.warn(f"{report.name}: {line}")
    for line in [] if strict else lines(between, Weight.WARNING):
        console.warn(line)
    for report in reports:
        errors = [*report.errors, *refused[report.name]]
        for line in errors[:_SHOWN_ERRORS]:
            console.fail(f"{report.name}: {line}")
        if len(errors) > _SHOWN_ERRORS:
            console.fail(f"{report.name}: {len(errors) - _SHOWN_ERRORS} more (--json lists all)")
    for line in lines(between, Weight.ERROR, strict=strict):
        console.fail(line)


def _image_hint(data: str, decoded: bool) -> str:
    return "" if decoded or not Path(data).exists() else f"; to decode the images too: fcos data check {data} --images"
