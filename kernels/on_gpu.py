"""Proves and measures everything that needs a GPU, ten minutes at a time: `python kernels/on_gpu.py [--resume]`.

First it says, within seconds, what is missing here. Then, ordered by worth:

    smoke            tests that together launch each kernel
    bench            python -m fcos_kernels.bench: each op against the bandwidth of a copy, eager, torchvision
    train, predict   fcos bench: a step of R-50 at 16 x 800x1333; batches of 1 and 16; beside torchvision's
    bccd             a training on real images with the Triton kernels and one with the plain ops, same seed
    tests            all numeric tests of the kernels, in 12 processes
    memcheck, racecheck  compute-sanitizer over the smoke tests (where the tool is installed)
    bench, compiled  the benchmark's large cases against torch.compile

It may be cut at any second. Cases (a test, a size of the benchmark) and steps are appended to journals in the work
folder as they end; `--resume` goes on after them, also on another machine that was given the folder. All steps share
one Triton cache there, so that what one compiled no other does. After each step all of it is made into
kernels/results/<gpu>.json; `--collect` does only that. A step that fails leaves the others to run. Exit codes: 0 all
passed, 3 cut by --budget (run it again with --resume), 4 without a GPU, 5 where a step failed.

Needs torch with CUDA, triton, and for some steps what it names as missing. `--rehearse` runs the same on a CPU, with
less.
"""

import argparse
import datetime
import json
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from fcos_kernels.bench import journal
from gpu_proof import missing
from gpu_proof.cache import take_over
from gpu_proof.running import Done, run, summary
from gpu_proof.steps import Step, steps

ROOT = Path(__file__).resolve().parent.parent
PASSED, USAGE, CUT, NO_GPU, GATE_FAILED = 0, 2, 3, 4, 5
RESERVE = 5
"""Seconds of the budget kept for the last results."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    began = time.perf_counter()
    options = _parser().parse_args(arguments)
    work, data = options.work.resolve(), _data(options.data)
    planned = steps(work, data, options.rehearse)
    unknown = set(options.only) - {step.name for step in planned}
    if unknown:
        names = ", ".join(step.name for step in planned)
        print(f"no step {', '.join(sorted(unknown))}: choose from {names}", file=sys.stderr)
        return USAGE
    chosen = [step for step in planned if not options.only or step.name in options.only]
    if options.list:
        for step in chosen:
            print(f"{step.name} (at most {step.limit} s, {len(step.commands)} at once): {' '.join(step.commands[0])}")
        return PASSED
    if options.collect:
        print(f"results: {_write(options.results, work, planned)}")
        return PASSED
    if (work / "steps.jsonl").exists() and not options.resume:
        print(f"{work} holds a run already: --resume goes on with it, --work names another folder", file=sys.stderr)
        return USAGE
    for folder in filter(None, (options.cache, options.wheels)):
        if not folder.is_dir():
            print(f"no folder {folder}", file=sys.stderr)
            return USAGE
    site = _install(options.wheels, work)
    about = missing.machine() | {"date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d")}
    print(", ".join(f"{key} {value}" for key, value in about.items()), *missing.report(data), sep="\n", flush=True)
    if about["gpu"] == "-" and not options.rehearse:
        print("no CUDA device here (nvidia-smi names none): run this on a machine with one", file=sys.stderr)
        return NO_GPU
    if options.cache is not None:
        print(f"{take_over(options.cache, work / 'triton-cache')} entries taken over from {options.cache}", flush=True)
    if options.rehearse:
        about["gpu"] = "rehearsal"
    journal.append(work / "steps.jsonl", {"machine": about})
    finished = _ended(work)
    for step in chosen:
        left = options.budget - (time.perf_counter() - began) - RESERVE
        before = finished.get(step.name)
        if before is not None and before.final:
            print(f"\n== {step.name}: {before.outcome} before")
            continue
        done = run(step, work, ROOT, left, site) if left > 0 else Done(step.name, "cut", 0.0, [])
        finished[step.name] = done
        journal.append(work / "steps.jsonl", {"step": asdict(done)})
        print(f"\n== {done.name}: {done.outcome}, {done.seconds:.0f} s", *done.tail, sep="\n", flush=True)
        _write(options.results, work, planned)
    return _conclude([finished[step.name] for step in chosen], _write(options.results, work, planned))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("only", nargs="*", metavar="STEP", help="run these steps alone")
    parser.add_argument("--resume", action="store_true", help="go on with what the work folder holds")
    parser.add_argument("--budget", type=float, default=580, help="seconds for all (default: %(default)s)")
    parser.add_argument("--data", type=Path, help="folder of BCCD (default: data/bccd or shared/data/bccd)")
    parser.add_argument("--wheels", type=Path, help="folder of wheels to install missing packages from")
    parser.add_argument("--cache", type=Path, help="folder of a Triton cache filled elsewhere, to be taken over")
    parser.add_argument(
        "--work", type=Path, default=Path("gpu-work"), help="journals, logs and caches (default: %(default)s)"
    )
    parser.add_argument("--results", type=Path, default=ROOT / "kernels/results", help="folder of the result file")
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, with little of each step")
    parser.add_argument("--collect", action="store_true", help="make the result file of what the work folder holds")
    parser.add_argument("--list", action="store_true", help="print the commands and stop")
    return parser


def _data(given: Path | None) -> Path:
    """Within the checkout, or beside it."""
    known = [ROOT / "data/bccd", ROOT / "shared/data/bccd", ROOT.parent / "shared/data/bccd"]
    return (given or next((folder for folder in known if folder.is_dir()), known[0])).resolve()


def _install(wheels: Path | None, work: Path) -> Path | None:
    """Missing packages, from a folder of wheels into one of the work folder; that one, where it is there."""
    site = work / "site"
    absent = missing.packages(missing.TESTS | missing.TOOLKIT)
    if wheels is not None and absent and not site.is_dir():
        command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--find-links", str(wheels)]
        subprocess.run([*command, "--target", str(site), *absent], check=False)
    return site if site.is_dir() else None


def _ended(work: Path) -> dict[str, Done]:
    """The last word on each step that the journal has."""
    records = [record["step"] for record in journal.read(work / "steps.jsonl") if "step" in record]
    return {record["name"]: Done(**record) for record in records}


def _write(folder: Path, work: Path, planned: Sequence[Step]) -> Path:
    """All that the journals hold, in the order of the steps; a step that was cut shows the cases it has."""
    records = journal.read(work / "steps.jsonl")
    machines = [record["machine"] for record in records if "machine" in record] or [{"gpu": "unknown"}]
    done = _ended(work)
    for step in planned:
        if step.journal is not None and step.journal.exists() and not (step.name in done and done[step.name].final):
            seconds = done[step.name].seconds if step.name in done else 0.0
            done[step.name] = Done(step.name, "cut", seconds, [], summary(step.journal))
    kept = [asdict(done[step.name]) for step in planned if step.name in done]
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / (re.sub(r"[^a-z0-9]+", "-", machines[-1]["gpu"].lower()).strip("-") + ".json")
    part = path.with_suffix(".part")
    part.write_text(json.dumps({"machine": machines[-1], "steps": kept}, indent=1) + "\n", encoding="utf-8")
    part.replace(path)
    return path


def _conclude(done: Sequence[Done], path: Path) -> int:
    """Prints the table of steps; the exit code."""
    width = max(len(step.name) for step in done)
    print(f"\nresults: {path}")
    for step in done:
        print(f"{step.name:<{width}}  {step.seconds:6.1f} s  {step.outcome}")
    if any(step.outcome.startswith(("failed", "too")) for step in done):
        return GATE_FAILED
    return CUT if any(step.outcome == "cut" for step in done) else PASSED


if __name__ == "__main__":
    sys.exit(main())
