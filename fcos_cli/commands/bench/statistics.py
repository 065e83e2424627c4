"""`fcos bench stats`."""

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcos_cli.report import console

if TYPE_CHECKING:
    from fcos_cli.benchmarks.statistics import Point, Run

LAWS = {"images": "images", "boxes": "boxes an image", "resolution": "short side"}
COMMANDS = (["bpr"], ["tables"])
TRAIN2017_IMAGES = 118_000


def statistics(
    data: Annotated[
        str | None,
        typer.Option("--data", help="Also time the commands as whole processes on this data set.", show_default=False),
    ] = None,
    split: Annotated[str | None, typer.Option("--split", help="train, val, test, ...", show_default=False)] = None,
    large: Annotated[
        bool, typer.Option("--large", help="And `fcos stats bpr` on it repeated to train2017's 118,000 images.")
    ] = False,
    runs: Annotated[int, typer.Option("--runs", min=1, help="Runs of each measurement; the median counts.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """The assignment statistics: time against images, boxes an image and resolution."""
    from fcos_cli.benchmarks.statistics import exponent, law

    measured = {}
    for over in LAWS:
        with console.progress(f"time against {LAWS[over]}", None):
            measured[over] = list(law(over, runs))
        if not as_json:
            _show_law(over, measured[over])
    timed = _whole(data, split, large) if data else []
    if as_json:
        laws = {
            over: {"points": [asdict(p) for p in points], "exponent": exponent(over, points)}
            for over, points in measured.items()
        }
        console.print_json({"machine": _machine(), "laws": laws, "commands": [asdict(run) for run in timed]})
        return
    if timed:
        _show_commands(timed)
    console.say("bare writes: every location cleared and each box's cells written once, their numbers known")
    console.say(", ".join(f"{key} {value}" for key, value in _machine().items()))


def _whole(data: str, split: str | None, large: bool) -> "list[Run]":
    from fcos_cli.benchmarks.statistics import whole_commands
    from fcos_cli.data.datasets import open_data

    opened = open_data(data, split)
    with console.progress("whole commands", len(COMMANDS) + large) as step:
        timed = []
        for run in whole_commands(opened, [list(command) for command in COMMANDS]):
            timed.append(run)
            step()
        if large:
            copies = -(-TRAIN2017_IMAGES // max(len(opened), 1))
            timed += whole_commands(opened, [["bpr", "--json"]], copies)
            step()
    return timed


def _show_law(over: str, points: "list[Point]") -> None:
    from fcos_cli.benchmarks.statistics import exponent

    name, what = LAWS[over], "seconds" if over == "images" else "seconds an image"
    console.print_table(
        f"Time against {name}: {what} grow as its {exponent(over, points):.2f}th power",
        (name, "boxes", "cells", "seconds", "+-", "us a box", "x bare writes"),
        [
            (
                f"{p.x:,}",
                f"{p.boxes:,}",
                f"{p.cells:,}",
                f"{p.seconds:.3f}",
                f"{100 * p.spread:.0f} %",
                f"{1e6 * p.seconds / p.boxes:.1f}",
                f"{p.seconds / p.floor:.1f}",
            )
            for p in points
        ],
        text_columns=0,
    )


def _show_commands(runs: "Sequence[Run]") -> None:
    console.print_table(
        "Whole commands, from a cold start",
        ("command", "images", "boxes", "seconds", "memory, MB"),
        [
            (
                run.command,
                f"{run.images:,}",
                f"{run.boxes:,}",
                f"{run.seconds:.1f}",
                f"{run.memory / 1e6:,.0f}" if run.memory else "-",
            )
            for run in runs
        ],
    )


def _machine() -> dict[str, Any]:
    import numpy as np

    from fcos_kernels.bench.machine import processor

    return {
        "processor": processor(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
    }
