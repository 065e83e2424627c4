"""`fcos bench`: how fast the toolkit is on this machine."""

import typer

from fcos_cli.commands.bench.predict import predict
from fcos_cli.commands.bench.statistics import statistics
from fcos_cli.commands.bench.train import train

app = typer.Typer(help="How fast the toolkit is on this machine.", no_args_is_help=True)
app.command("train")(train)
app.command("predict")(predict)
app.command("stats")(statistics)
