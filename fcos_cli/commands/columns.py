"""Text columns on stdout."""

from collections.abc import Sequence

import typer
from rich.markup import escape
from rich.table import Table

from fcos_cli.report import console


def print_columns(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Text columns on stdout. The last one is never cut: a pipe gets whole lines."""
    if console.out.is_terminal:
        table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 3, 0, 0))
        for title in titles:
            table.add_column(title, overflow="fold", no_wrap=title is titles[0])
        for row in rows:
            table.add_row(*(escape(cell) for cell in row))
        console.out.print(table, soft_wrap=False)
        return
    widths = [max(len(cell) for cell in column) for column in zip(titles, *rows, strict=True)]
    for row in (titles, *rows):
        typer.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
