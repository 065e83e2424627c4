"""Options that several verbs have, each said once."""

from pathlib import Path
from typing import Annotated

import typer

from fcos_cli.recipe.schema import Precision

DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1, ...")]
PrecisionOption = Annotated[Precision, typer.Option(help="auto takes bfloat16 where the device is fast at it.")]
KeysOption = Annotated[list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Change a key of the recipe.")]
ImageDirOption = Annotated[
    Path | None,
    typer.Option(
        "--image-dir", metavar="DIR", help="The folder of the images, where they are not found by themselves."
    ),
]
