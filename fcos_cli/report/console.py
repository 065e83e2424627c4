"""What a person sees. stdout is the result, stderr the log and the progress; plain lines where there is no terminal."""

import json
import logging
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeRemainingColumn
from rich.table import Table

from fcos_cli.progress import Advance, shown


class _Console(Console):
    def on_broken_pipe(self) -> None:
        """Lets the BrokenPipeError through, for the command's entry point to end on; rich would exit with code 1."""
        raise


log = _Console(stderr=True, highlight=False, soft_wrap=True)
out = _Console(highlight=False, soft_wrap=True)


def say(message: str) -> None:
    """One line of log on stderr."""
    log.print(escape(message))


def warn(message: str) -> None:
    """One warning on stderr."""
    log.print(f"[yellow]warning:[/] {escape(message)}")


def fail(message: str, hint: str = "") -> None:
    """One error on stderr, with what to do next."""
    log.print(f"[bold red]error:[/] {escape(message)}")
    if hint:
        log.print(f"[bold]hint:[/] {escape(hint)}")


class _Handler(logging.Handler):
    """Lines of the library's log, as `say`, `warn` and `fail` have them; rich's own handler would wrap and pad them."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = self.format(record)
            show = fail if record.levelno >= logging.ERROR else warn if record.levelno >= logging.WARNING else say
            show(message)
        except BrokenPipeError:
            raise
        except Exception:
            self.handleError(record)


@contextmanager
def listening() -> Iterator[None]:
    """Shows the library's log and progress on stderr while the block runs; only a program does so, no library."""
    logger, handler = logging.getLogger("fcos_cli"), _Handler()
    former = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    try:
        with shown(progress):
            yield
    finally:
        logger.setLevel(former)
        logger.removeHandler(handler)


def print_json(value: Any) -> None:
    """The result of a `--json` command: one object on stdout and nothing else."""
    sys.stdout.write(json.dumps(value, indent=2, allow_nan=False) + "\n")
    sys.stdout.flush()


def print_table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]], text_columns: int = 1) -> None:
    """A table on stdout: the first `text_columns` columns are text, the others are aligned right."""
    table = Table(title=escape(title), title_justify="left", title_style="bold", header_style="bold")
    for position, column in enumerate(columns):
        table.add_column(escape(column), justify="left" if position < text_columns else "right", overflow="fold")
    for row in rows:
        table.add_row(*(escape(str(cell)) for cell in row))
    out.print(table)


@contextmanager
def progress(label: str, total: int | None) -> Iterator[Advance]:
    """A progress bar on stderr while the block runs; on a pipe a plain line at every tenth.

    >>> with progress("reading", 10) as step: step(1)
    """
    if not log.is_terminal:
        yield _PlainAdvance(label, total)
        return
    text = TextColumn("{task.description}")
    columns = (SpinnerColumn(), text, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=log, transient=True) as bar:
        task = bar.add_task(escape(label), total=total)

        def advance(count: int = 1) -> None:
            bar.advance(task, count)

        yield advance


class _PlainAdvance:
    def __init__(self, label: str, total: int | None) -> None:
        self.label, self.total, self.done, self.next_line = label, total, 0, 0

    def __call__(self, count: int = 1) -> None:
        self.done += count
        if self.total and self.done >= self.next_line:
            say(f"{self.label}: {self.done} of {self.total}")
            self.next_line += max(1, -(-self.total // 10))


def print_metrics(metrics: Mapping[str, float | None], published_ap: float | None = None) -> None:
    """COCO's twelve figures in percent on stdout, precision beside recall; with the paper's AP where there is one."""

    def percent(key: str) -> str:
        value = metrics[key]
        return "-" if value is None else f"{100 * value:.1f}"

    rows = [(a, percent(a), b, percent(b)) for a, b in zip(list(metrics)[:6], list(metrics)[6:], strict=True)]
    print_table("COCO metrics, %", ("precision", "", "recall", ""), rows)
    if published_ap is not None:
        out.print(f"the paper's AP on COCO: {published_ap}")
