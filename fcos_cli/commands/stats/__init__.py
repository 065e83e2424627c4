"""`fcos stats`: what an assignment can and cannot learn of a data set, before a single training step."""

import typer

from fcos_cli.commands.stats.advise import advise
from fcos_cli.commands.stats.ambiguity import ambiguity
from fcos_cli.commands.stats.boxes import boxes
from fcos_cli.commands.stats.bpr import bpr
from fcos_cli.commands.stats.detections import detections
from fcos_cli.commands.stats.request import verb
from fcos_cli.commands.stats.tables import tables

app = typer.Typer(help="What an assignment can and cannot learn of a data set.", no_args_is_help=True)
app.command("bpr")(verb(bpr))
app.command("ambiguity")(verb(ambiguity))
app.command("tables")(verb(tables))
app.command("boxes")(verb(boxes))
app.command("advise")(verb(advise))
app.command("detections")(verb(detections))
