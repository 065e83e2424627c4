"""`fcos data convert`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fcos_cli.commands.data.options import DataArgument, ImagesOption, OutOption
from fcos_cli.commands.options import ImageDirOption
from fcos_cli.report import console

if TYPE_CHECKING:
    from fcos_cli.data.convert.target import Written


def convert(
    data: DataArgument,
    out: OutOption,
    to: Annotated[Literal["coco", "yolo", "voc"], typer.Option("--to", help="The format to write.")],
    split: Annotated[str | None, typer.Option("--split", help="Only this split; all of them by default.")] = None,
    images: ImagesOption = "copy",
    image_dir: ImageDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Write a data set in another format. What the format cannot say is named; DIR is whole or not there.

    COCO keeps all of it (segments and key points are not read). Pascal VOC keeps classes, `difficult`, and boxes to a
    thousandth of a pixel. YOLO keeps boxes and classes: crowd boxes are left out, boxes end at the image's border.
    """
    from fcos_cli.data.convert.converting import convert as run
    from fcos_cli.data.datasets import find_splits, open_data
    from fcos_cli.files import check_absent

    check_absent(out)
    _, found = find_splits(data)
    names = [split] if split is not None else [name for name in found if not found[name].lost]
    opened = {name: open_data(data, name, image_dir=image_dir) for name in names}
    for name, part in opened.items():
        for finding in part.findings:
            console.warn(f"{name}: on reading: {finding.line}")
    with console.progress("images", sum(map(len, opened.values()))) as advance:
        written = run(opened, out, to, images=images, advance=advance)
    show_written(written, out, as_json)


def show_written(written: "Written", out: Path, as_json: bool) -> None:
    """Counts on stdout; what was left out or changed, and what to do next, on stderr."""
    if as_json:
        console.print_json(
            {
                "out": str(out),
                "splits": {
                    name: {"images": count, "boxes": written.boxes[name]} for name, count in written.images.items()
                },
                "left_out": dict(written.left_out),
                "changed": written.changed,
            }
        )
        return
    rows = [[name, f"{count:,}", f"{written.boxes[name]:,}"] for name, count in written.images.items()]
    console.print_table(str(out), ["split", "images", "boxes"], rows)
    for reason, count in written.left_out.items():
        console.warn(f"left out: {reason} ({count:,})")
    for line in written.changed:
        console.warn(line)
    console.say(f"next: fcos data check {out}")
