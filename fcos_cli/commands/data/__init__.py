"""`fcos data`: what data sets there are, and whether one is sound."""

import typer

from fcos_cli.commands.data.check import check
from fcos_cli.commands.data.list import list_data

app = typer.Typer(help="List and check data sets.", no_args_is_help=True)
app.command("list")(list_data)
app.command("check")(check)
