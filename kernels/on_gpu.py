"""Proves and measures everything that needs a GPU, in at most ten minutes: `python kernels/on_gpu.py`.

    tests      the numeric tests of the kernels, on the GPU
    memcheck   compute-sanitizer over a test of each kernel: accesses out of bounds (where the tool is installed)
    racecheck  the same for hazards in shared memory
    bench      python -m fcos_kernels.bench: each op against the bandwidth of a copy, eager, compiled, torchvision
    train      fcos bench train: a step of R-50 at 16 x 800x1333, beside torchvision's
    predict    fcos bench predict: batches of 1 and 16, beside torchvision's
    bccd       a training on real images with the Triton kernels and one with the plain ops, same seed

Runs each step in a process of its own with a limit of its own, prints a table, and writes kernels/results/<gpu>.json:
device, driver, versions, date, and what each step reported. A step that fails leaves the others to run; exit code 5.
Needs torch with CUDA, triton, pytest, hypothesis and the toolkit's own dependencies; PYTHONPATH is set for a checkout.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from fcos_kernels.ops import OPS

ROOT = Path(__file__).resolve().parent.parent
GATE_FAILED, NO_GPU = 5, 4
TAIL_LINES = 12
VERSIONS = ("torch", "triton", "torchvision", "numpy")


@dataclass(frozen=True)
class Step:
    """One command.

    Attributes:
        limit: seconds after which it is ended and counts as failed.
        report: file that it writes JSON to; "" where what it prints on stdout is JSON; None where there is none.
        needs: a program without which the step is left out.
    """

    name: str
    command: Sequence[str]
    limit: int
    report: str | None = None
    needs: str | None = None
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Done:
    """What became of a step: "passed", "failed", "too slow" or "left out: why"; its seconds, last lines, and JSON."""

    name: str
    outcome: str
    seconds: float
    tail: list[str]
    figures: Any = None


def steps(work: Path, data: Path) -> list[Step]:
    """All steps, in order; files they write go to `work`, `data` is the folder of BCCD."""
    python, toolkit = sys.executable, [sys.executable, "-m", "fcos_cli"]
    bench = str(work / "bench.json")
    train = [*toolkit, "train", "bccd", "--set", f'data.dataset="{data}"', "--set", "train.log_every=25", "--json"]
    quick = ["--runs", "10", "--against", "torchvision", "--json"]
    return [
        Step("tests", [python, "-m", "pytest", "tests/kernels", "-q"], 140),
        *(_sanitizer(tool, 45) for tool in ("memcheck", "racecheck")),
        Step("bench", [python, "-m", "fcos_kernels.bench", "--seconds", "0.3", "--json", bench], 100, report=bench),
        Step("train", [*toolkit, "bench", "train", "r50", "--batch-size", "16", *quick], 50, report=""),
        Step("predict", [*toolkit, "bench", "predict", "--batch-size", "1,16", *quick[2:]], 50, report=""),
        Step("bccd", [*train, "--run-dir", str(work / "fused")], 85, report=""),
        Step(
            "bccd, plain ops",
            [*train, "--run-dir", str(work / "plain"), "--set", 'train.kernels="reference"'],
            85,
            report="",
        ),
    ]


def _sanitizer(tool: str, limit: int) -> Step:
    """Without PyTorch's cache, so that every tensor has bounds of its own."""
    tests = [f"tests/kernels/{op.folder}/test_triton.py::{name}" for op in OPS for name in op.sanitized]
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, "-m", "pytest", *tests]
    environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1"}
    return Step(tool, [*command, "-q"], limit, needs="compute-sanitizer", environment=environment)


def run(step: Step) -> Done:
    """Runs a step to its end or to its limit."""
    if step.needs and not shutil.which(step.needs):
        return Done(step.name, f"left out: no {step.needs} here", 0.0, [])
    paths = [str(ROOT), str(ROOT / "kernels"), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = {**os.environ, **step.environment, "PYTHONPATH": os.pathsep.join(paths)}
    started = time.perf_counter()
    try:
        done = subprocess.run(
            step.command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=step.limit, check=False
        )
    except subprocess.TimeoutExpired as late:
        printed = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else late.stdout or ""
        return Done(step.name, "too slow", float(step.limit), printed.splitlines()[-TAIL_LINES:])
    seconds = time.perf_counter() - started
    figures = None
    if step.report is not None:
        try:
            figures = json.loads(Path(step.report).read_text(encoding="utf-8") if step.report else done.stdout)
        except (OSError, ValueError) as error:
            figures = {"unreadable": str(error)}
    shown = done.stderr if step.report == "" else done.stdout
    outcome = "passed" if done.returncode == 0 else f"failed: exit code {done.returncode}"
    tail = (shown if done.returncode == 0 else done.stdout + done.stderr).splitlines()[-TAIL_LINES:]
    return Done(step.name, outcome, round(seconds, 1), tail, figures)


def machine() -> dict[str, str]:
    """The GPU, its driver, versions and the date. Raises RuntimeError where there is no CUDA device."""
    import torch

    if not torch.cuda.is_available():
        raise RuntimeError("no CUDA device here: run this on a machine with one")
    about = {
        "gpu": torch.cuda.get_device_name(),
        "driver": _driver(),
        "cuda": str(torch.version.cuda),
        "python": platform.python_version(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d"),
    }
    for name in VERSIONS:
        try:
            about[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            about[name] = "-"
    return about


def _driver() -> str:
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        return subprocess.run(query, capture_output=True, text=True, check=True).stdout.split("\n")[0].strip()
    except (OSError, subprocess.CalledProcessError):
        return "-"


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code: 0, 4 without a GPU, 5 where a step failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", metavar="STEP", help="run these steps alone")
    parser.add_argument("--data", type=Path, default=ROOT.parent / "shared/data/bccd", help="folder of BCCD")
    parser.add_argument(
        "--work", type=Path, default=Path("gpu-work"), help="where the steps write (default: %(default)s)"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "kernels/results", help="folder of the result file")
    parser.add_argument("--list", action="store_true", help="print the commands and stop")
    options = parser.parse_args(arguments)
    planned = steps(options.work.resolve(), options.data)
    unknown = set(options.only) - {step.name for step in planned}
    if unknown:
        parser.error(f"no step {', '.join(sorted(unknown))}: choose from {', '.join(step.name for step in planned)}")
    chosen = [step for step in planned if not options.only or step.name in options.only]
    if options.list:
        for step in chosen:
            print(f"{step.name} (at most {step.limit} s): {' '.join(step.command)}")
        return 0
    try:
        about = machine()
    except RuntimeError as error:
        print(error, file=sys.stderr)
        return NO_GPU
    options.work.mkdir(parents=True, exist_ok=True)
    print(", ".join(f"{key} {value}" for key, value in about.items()), flush=True)
    finished = []
    for step in chosen:
        done = run(step)
        finished.append(done)
        print(f"\n== {done.name}: {done.outcome}, {done.seconds:.0f} s", *done.tail, sep="\n", flush=True)
        _write(options.results, about, finished)
    width = max(len(done.name) for done in finished)
    print(f"\nresults: {_write(options.results, about, finished)}")
    for done in finished:
        print(f"{done.name:<{width}}  {done.seconds:6.1f} s  {done.outcome}")
    return GATE_FAILED if any(done.outcome.startswith(("failed", "too")) for done in finished) else 0


def _write(folder: Path, about: dict[str, str], finished: list[Done]) -> Path:
    """After every step, so that a run that is cut short keeps what it has."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (re.sub(r"[^a-z0-9]+", "-", about["gpu"].lower()).strip("-") + ".json")
    text = json.dumps({"machine": about, "steps": [asdict(done) for done in finished]}, indent=1)
    path.write_text(text + "\n", encoding="utf-8")
    return path


if __name__ == "__main__":
    sys.exit(main())
