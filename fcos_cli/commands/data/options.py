"""Options that several verbs of `fcos data` have."""

from pathlib import Path
from typing import Annotated, Literal

import typer

from fcos_cli.data.convert.placing import Placing

DataArgument = Annotated[
    str, typer.Argument(metavar="DATA", help="A name (coco, shapes), a folder or an annotation file.")
]
OutOption = Annotated[Path, typer.Option("--out", metavar="DIR", help="The folder to make; it must not exist.")]
ImagesOption = Annotated[
    Placing,
    typer.Option(
        "--images",
        help="copy them, link to them (symbolic links), or reference: name them where they are (COCO only).",
    ),
]
ToOption = Annotated[
    Literal["coco", "yolo", "voc"] | None,
    typer.Option("--to", help="The format to write (default: the data set's own, or coco).", show_default=False),
]


def own_format(layout: str) -> Literal["coco", "yolo", "voc"]:
    """The format to write where none is asked for: that of the layout it was read from, if it can be written."""
    written: dict[str, Literal["coco", "yolo", "voc"]] = {"YOLO": "yolo", "Darknet": "yolo", "Pascal VOC": "voc"}
    return written.get(layout, "coco")
