"""`fcos data`: what data sets there are, whether one is sound, and the same data in another format."""

import typer

from fcos_cli.commands.data.check import check
from fcos_cli.commands.data.convert import convert
from fcos_cli.commands.data.list import list_data
from fcos_cli.commands.data.show import show
from fcos_cli.commands.data.split import split

app = typer.Typer(help="List, check, show, convert and divide data sets.", no_args_is_help=True)
app.command("list")(list_data)
app.command("check")(check)
app.command("convert")(convert)
app.command("split")(split)
app.command("show")(show)
