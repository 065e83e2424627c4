"""`fcos weights`: whose weights are known, what a file holds, and other projects' detectors made this toolkit's."""

import typer

from fcos_cli.commands.weights.importing import import_weights
from fcos_cli.commands.weights.list import list_weights
from fcos_cli.commands.weights.show import show

app = typer.Typer(help="List, show and import weights.", no_args_is_help=True)
app.command("list")(list_weights)
app.command("show")(show)
app.command("import")(import_weights)
