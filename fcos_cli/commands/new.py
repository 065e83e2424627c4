"""`fcos new`."""

from pathlib import Path
from typing import Annotated

import typer

from fcos_cli.report import console


def new(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="The folder to make; it must not exist.")],
    data: Annotated[str, typer.Option("--data", help="A name, a folder or an annotation file.", show_default=False)],
    train_split: Annotated[
        str | None, typer.Option("--train-split", help="Split to train on (default: train, or the only one).")
    ] = None,
    val_split: Annotated[
        str | None, typer.Option("--val-split", help="Split to evaluate on (default: val, or a fifth of the images).")
    ] = None,
    epochs: Annotated[
        float | None,
        typer.Option("--epochs", min=0.001, help="Length of the training (default: by the number of images)."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Look at your data and this machine, and write a first recipe whose every choice says its reason.

    Then follow the three commands that it prints: try out, train, and look at the result.
    """
    from fcos_cli.drafting.machine import this_machine
    from fcos_cli.drafting.project import new_project
    from fcos_cli.files import check_absent

    check_absent(folder)
    machine = this_machine()
    project = new_project(folder, data, machine, train_split=train_split, val_split=val_split, epochs=epochs)
    if as_json:
        console.print_json(
            {"recipe": str(project.recipe), "notes": list(project.notes), "commands": list(project.commands)}
        )
        return
    console.say(f"this machine: {machine}")
    for note in project.notes:
        console.say(note)
    console.say(f"{project.recipe}: each key with its reason; next:")
    for command in project.commands:
        console.out.print(f"  {command}", markup=False)
