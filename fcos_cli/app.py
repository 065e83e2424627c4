"""The command `fcos`: wires the verbs together. Imports nothing heavy; a verb imports torch when it runs."""

import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from fcos_cli import __version__
from fcos_cli.commands import data, evaluate, predict, recipe, stats, train
from fcos_cli.errors import FcosError
from fcos_cli.report import console

INTERRUPTED = 130

app = typer.Typer(
    name="fcos",
    help="FCOS object detection: train on your data, evaluate, understand the data, predict.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.add_typer(recipe.app, name="recipe")
app.add_typer(data.app, name="data")
app.add_typer(stats.app, name="stats")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"fcos {__version__}")
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and stop.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """FCOS object detection: train on your data, evaluate, understand the data, predict."""


def with_optional_values(arguments: Sequence[str]) -> list[str]:
    """`--resume` may stand without a value (the newest run) or before the recipe; Typer knows only options with one."""
    filled: list[str] = []
    for position, argument in enumerate(arguments):
        following = arguments[position + 1] if position + 1 < len(arguments) else "-"
        bare = argument == "--resume" and (following.startswith("-") or following.endswith(".toml"))
        filled.append("--resume=newest" if bare else argument)
    return filled


def main() -> None:
    """Entry point: runs the app and turns what went wrong into one clear line and an exit code."""
    try:
        app(with_optional_values(sys.argv[1:]), prog_name="fcos")
    except FcosError as error:
        console.fail(error.message, error.hint)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        console.fail("interrupted")
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        # The reader of our stdout (head, less) has gone; nothing is left to say to it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        console.fail(
            f"the disk is full: {error.filename or 'a file could not be written'}", "free some space, then run it again"
        )
        sys.exit(4)


if __name__ == "__main__":
    main()
