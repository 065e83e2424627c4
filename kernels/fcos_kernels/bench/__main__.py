"""`python -m fcos_kernels.bench`: the table of the ops' speed. See `fcos_kernels.bench`."""

import argparse
import datetime
import json
import platform
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import torch

from fcos_kernels.bench import journal
from fcos_kernels.bench.case import Case
from fcos_kernels.bench.machine import processor
from fcos_kernels.bench.timing import as_graph, copy_bandwidth, time_all
from fcos_kernels.common import dispatch
from fcos_kernels.ops import OPS

WRONG_NUMBERS = 5
CASES = {op.name: op.folder for op in OPS} | {"postprocess": "postprocess"}
"""What can be timed, each op and all that follows the network, and the module of this package that has its cases."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 5 where an op's numbers are wrong (its times are then not printed)."""
    parser = argparse.ArgumentParser(prog="python -m fcos_kernels.bench", description=__doc__)
    parser.add_argument("ops", nargs="*", metavar="OP", help=f"{', '.join(CASES)} (default: all)")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--only", default="", help="only cases whose size contains this, such as COCO or bfloat16")
    parser.add_argument("--seconds", type=float, default=2.0, help="time for each implementation of a case")
    parser.add_argument(
        "--compile", action=argparse.BooleanOptionalAction, default=None, help="time torch.compile, too"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write the figures here")
    parser.add_argument(
        "--journal", type=Path, metavar="FILE", help="append each case's figures here, and leave out those it has"
    )
    options = parser.parse_args(arguments)
    unknown = set(options.ops) - set(CASES)
    if unknown:
        parser.error(f"no op {', '.join(sorted(unknown))}: choose from {', '.join(CASES)}")
    if options.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device here: --device cpu")
    device = torch.device(options.device)
    with_compile = options.compile if options.compile is not None else device.type == "cuda"

    machine = describe(device)
    bandwidth = copy_bandwidth(device)
    machine["copy_gb_per_s"] = round(bandwidth / 1e9, 1)
    print(", ".join(f"{key} {value}" for key, value in machine.items()))
    done = Journaled.of(options.journal, machine)
    results, wrong = done.results, done.wrong
    for op in options.ops or CASES:
        for case in cases_of(op, device, with_compile):
            if options.only not in case.size or done.has(case):
                continue
            try:
                case.compare()
            except AssertionError as error:
                wrong += 1
                print(f"{case.op}, {case.size}: WRONG NUMBERS, not timed: {error}", file=sys.stderr)
                done.add({"op": case.op, "size": case.size, "wrong": str(error)})
                continue
            result = measure(case, device, bandwidth, options.seconds)
            results.append(result)
            done.add(result)
            _print(result)
    if not results and not wrong:
        parser.error(f"no case's size contains {options.only!r}")
    if options.json is not None:
        options.json.write_text(json.dumps({"machine": machine, "results": results}, indent=1) + "\n")
    return WRONG_NUMBERS if wrong else 0


class Journaled(NamedTuple):
    """What a journal holds of the cases: their results, and the number of those whose numbers were wrong."""

    path: Path | None
    cases: set[tuple[str, str]]
    results: list[dict[str, Any]]
    wrong: int

    @staticmethod
    def of(path: Path | None, machine: dict[str, Any]) -> "Journaled":
        """Reads a journal, and notes there the machine that goes on."""
        records = [] if path is None else [record for record in journal.read(path) if "op" in record]
        if path is not None:
            journal.append(path, {"machine": machine})
        right = [record for record in records if "wrong" not in record]
        return Journaled(path, {(r["op"], r["size"]) for r in records}, right, len(records) - len(right))

    def has(self, case: Case) -> bool:
        return (case.op, case.size) in self.cases

    def add(self, record: dict[str, Any]) -> None:
        if self.path is not None:
            journal.append(self.path, record)


def cases_of(op: str, device: torch.device, with_compile: bool) -> Iterator[Case]:
    """The cases of one of CASES."""
    cases: Iterator[Case] = import_module(f"fcos_kernels.bench.{CASES[op]}").cases(device, with_compile)
    return cases


def measure(case: Case, device: torch.device, bandwidth: float, seconds: float) -> dict[str, Any]:
    """Milliseconds of every implementation, the floor, and how far ours is from it."""
    works = {"ours": case.ours, **case.rivals}
    if device.type == "cuda":
        works = {"ours": as_graph(case.ours, device), "ours, launched": case.ours, **case.rivals}
    timed = time_all(works, device, seconds)
    floor = 1e3 * case.bytes / bandwidth
    ours = timed["ours"].median
    return {
        "op": case.op,
        "size": case.size,
        "bytes": case.bytes,
        "floor_ms": floor,
        "times_floor": ours / floor,
        "ms": {name: asdict(row) for name, row in timed.items()},
        "ratio_to_ours": {name: row.median / ours for name, row in timed.items()},
    }


def describe(device: torch.device) -> dict[str, Any]:
    """The device and the versions."""
    about: dict[str, Any] = {"date": datetime.date.today().isoformat()}
    if device.type == "cuda":
        about["device"] = torch.cuda.get_device_name(device)
        about["cuda"] = torch.version.cuda or torch.version.hip
    else:
        about["device"] = f"{processor()}, {torch.get_num_threads()} threads"
    about["torch"] = torch.__version__
    if dispatch.has_triton():
        from importlib.metadata import version

        about["triton"] = version("triton")
    about["python"] = platform.python_version()
    about["kernels"] = dispatch.reason(device)
    return about


def _print(result: dict[str, Any]) -> None:
    print(f"\n{result['op']}, {result['size']}")
    print(f"  {result['bytes'] / 1e6:.1f} MB must move: {result['floor_ms']:.3f} ms at the speed of a copy")
    for name, row in result["ms"].items():
        spread = 100 * (row["slowest"] - row["fastest"]) / row["median"]
        against = f"{result['ratio_to_ours'][name]:8.2f} x ours"
        if name == "ours":
            against = f"{result['times_floor']:8.2f} x the floor"
        print(f"  {name:<16} {row['median']:10.3f} ms  +-{spread:4.0f} %  ({row['runs']} runs) {against}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
