"""Markdown tables from measured figures: `python -m fcos_kernels.bench.table FILE...`.

Takes what `python -m fcos_kernels.bench --json FILE` wrote, or what `python -m fcos_kernels.aot --json` printed. The
tables in kernels/README.md are made by it, so that nobody has copied a number by hand.
"""

import argparse
import json
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from fcos_kernels.aot.targets import TARGETS

OURS, LAUNCHED = "ours", "ours, launched"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fcos_kernels.bench.table", description=__doc__)
    parser.add_argument("files", nargs="+", type=Path, metavar="FILE")
    for file in parser.parse_args(arguments).files:
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
            print(aot_table(content) if isinstance(content, list) else bench_table(content), end="\n\n")
        except (OSError, ValueError, KeyError, TypeError) as error:
            parser.error(f"{file} is no result of the benchmark or of aot: {type(error).__name__} {error}")
    return 0


def bench_table(report: dict[str, Any]) -> str:
    """A row for each case: the time, its multiple of the floor, and how many times as long the others take."""
    results = report["results"]
    rivals = list(dict.fromkeys(name for row in results for name in row["ms"] if name not in (OURS, LAUNCHED)))
    rows = []
    for row in results:
        ours = row["ms"][OURS]
        ratios = [f"{row['ratio_to_ours'][name]:.1f}x" if name in row["ms"] else "" for name in rivals]
        time = f"{ours['median']:.3g} ms ({ours['fastest']:.3g} to {ours['slowest']:.3g})"
        rows.append([f"`{row['op']}`", row["size"], time, f"{row['times_floor']:.1f}", *ratios])
    about = ", ".join(f"{key.replace('_', ' ')} {value}" for key, value in report["machine"].items())
    return about + "\n\n" + _markdown(["op", "size", "ours", "times the floor", *rivals], rows)


def aot_table(builds: Iterable[dict[str, Any]]) -> str:
    """A row for each kernel: on each target the most registers and the fewest warps an SM; shared memory, spills."""
    kernels: dict[str, list[dict[str, Any]]] = {}
    for row in builds:
        kernels.setdefault(row["kernel"], []).append(row)
    rows = []
    for kernel, built in kernels.items():
        dtypes = ", ".join(dict.fromkeys(row["dtype"] for row in built))
        own = [[row for row in built if row["target"] == target] for target in TARGETS]
        registers = [_registers_and_occupancy(rows) for rows in own]
        rest = [_most(row["shared"] for row in built), _most(row["spills"] for row in built)]
        rows.append([f"`{kernel}`", dtypes, str(len(built)), *registers, *rest])
    return _markdown(["kernel", "dtypes", "builds", *TARGETS, "shared bytes", "spills"], rows)


def _registers_and_occupancy(rows: list[dict[str, Any]]) -> str:
    if not rows:
        return ""
    return f"{max(row['registers'] for row in rows)} ({min(row['occupancy'] for row in rows)} %)"


def _most(numbers: Iterable[int]) -> str:
    return str(max(numbers, default=""))


def _markdown(head: list[str], rows: list[list[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in [head, ["---"] * len(head), *rows])


if __name__ == "__main__":
    sys.exit(main())
