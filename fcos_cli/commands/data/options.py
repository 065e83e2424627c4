"""Options that several verbs of `fcos data` have."""

from pathlib import Path
from typing import Annotated

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
