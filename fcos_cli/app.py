"""The command `fcos`: wires the verbs together. Imports nothing heavy; a verb imports torch when it runs."""

import errno
import os
import signal
import sys
from collections.abc import Sequence
from types import FrameType
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from fcos_cli.commands import bench, data, evaluate, new, predict, recipe, stats, train, weights
from fcos_cli.errors import INTERRUPTED, FcosError, SetupError
from fcos_cli.report import console
from fcos_cli.version import __version__

REFUSALS = {
    errno.ENOSPC: ("the disk is full", "free some space, then run it again"),
    errno.EDQUOT: ("the disk quota is used up", "free some space, then run it again"),
    errno.EACCES: ("no permission", "change its permissions, or choose another place"),
    errno.EPERM: ("no permission", "change its permissions, or choose another place"),
    errno.EROFS: ("the file system is read-only", "choose a place that you may write to"),
}
"""What the machine may refuse while a command runs: in our words, and what to do about it."""


class _Toolkit(TyperGroup):
    """Says that a command was interrupted, and takes a reader that has gone (head, less) for no failure.

    This is where Typer itself would end the program: silently, and with exit code 1 for a closed pipe.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            console.fail("interrupted")
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit from None


app = typer.Typer(
    name="fcos",
    cls=_Toolkit,
    help="FCOS object detection: train on your data, evaluate, understand the data, predict.",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command("new")(new.new)
app.command("train")(train.train)
app.command("eval")(evaluate.evaluate)
app.command("predict")(predict.predict)
app.add_typer(recipe.app, name="recipe")
app.add_typer(data.app, name="data")
app.add_typer(weights.app, name="weights")
app.add_typer(stats.app, name="stats")
app.add_typer(bench.app, name="bench")


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
    """`fcos train --resume` may stand without a value (the newest run) or before the recipe; Typer knows only options
    with one."""
    if arguments[:1] == ["predict"]:
        return list(arguments)
    filled: list[str] = []
    for position, argument in enumerate(arguments):
        following = arguments[position + 1] if position + 1 < len(arguments) else "-"
        bare = argument == "--resume" and (following.startswith("-") or following.endswith(".toml"))
        filled.append("--resume=newest" if bare else argument)
    return filled


def main() -> None:
    """Entry point: runs the app and turns what went wrong into one clear line and an exit code."""
    former = signal.signal(signal.SIGTERM, _terminated)
    try:
        with console.listening():
            app(with_optional_values(sys.argv[1:]), prog_name="fcos")
    except FcosError as error:
        console.fail(error.message, error.hint)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in REFUSALS:
            raise
        reason, hint = REFUSALS[error.errno]
        console.fail(f"{reason}: {error.filename or 'a file could not be written'}", hint)
        sys.exit(SetupError.exit_code)
    finally:
        signal.signal(signal.SIGTERM, former or signal.SIG_DFL)


def _terminated(number: int, frame: FrameType | None) -> None:
    """SIGTERM is Ctrl-C: what is done is kept, and no temporary file stays behind."""
    raise KeyboardInterrupt


if __name__ == "__main__":
    main()
