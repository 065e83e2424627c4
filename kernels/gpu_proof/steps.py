"""The steps, ordered by what they are worth: a run that is cut has the most important results."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fcos_kernels.ops import OPS, Op
from gpu_proof.missing import TESTS, TOOLKIT

PROCESSES = 12


@dataclass(frozen=True)
class Step:
    """One or several commands, run side by side.

    Attributes:
        limit: seconds after which they are ended.
        journal: file to which they append their cases; None where a step is one case.
        report: file that it writes JSON to; "" where what it prints on stdout is JSON; None where there is none.
        needs: a program without which the step is left out.
        packages: import name -> package, without which it is left out.
        folder: one without which it is left out.
        clears: one that it fills, and that a run of it which was cut has left in parts.
    """

    name: str
    commands: Sequence[Sequence[str]]
    limit: int
    journal: Path | None = None
    report: str | None = None
    needs: str | None = None
    packages: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    clears: Path | None = None
    environments: Sequence[dict[str, str]] = ({},)


def steps(work: Path, data: Path, rehearse: bool) -> list[Step]:
    """All steps, in order; files they write go to `work`, `data` is the folder of BCCD.

    To rehearse, the same programs do less, on a CPU and in Triton's interpreter.
    """
    bench = [sys.executable, "-m", "fcos_kernels.bench", "--journal"]
    few = ["--device", "cpu", "--only", "small", "--seconds", "0.02"] if rehearse else ["--seconds", "0.3"]
    toolkit = [sys.executable, "-m", "fcos_cli"]
    timed = [*toolkit, "bench"]
    quick = ["--runs", "1" if rehearse else "10", "--json"] + ([] if rehearse else ["--against", "torchvision"])
    recipe, batch = ("shapes", "1") if rehearse else ("r50", "16")
    processes = 2 if rehearse else PROCESSES
    images = ["--device", "cpu"] if rehearse else []
    weights = ["--recipe", "shapes", "--images", "synthetic"] if rehearse else []
    return [
        _tests(
            "smoke", [test for op in OPS[-1 if rehearse else 0 :] for test in sanitized(op)], 60, work, processes // 2
        ),
        Step("bench", [[*bench, str(work / "bench.jsonl"), *few, "--no-compile"]], 150, work / "bench.jsonl"),
        _toolkit("train", [*timed, "train", recipe, "--batch-size", batch, *quick, *images], 60),
        _toolkit("predict 1", [*timed, "predict", "--batch-size", "1", *quick, *images, *weights], 50),
        *([] if rehearse else [_toolkit("predict 16", [*timed, "predict", "--batch-size", "16", *quick], 50)]),
        *_trainings(toolkit, work, data, rehearse),
        _tests("tests", ["tests/kernels/common" if rehearse else "tests/kernels"], 300, work, processes),
        *(_sanitizer(tool, work) for tool in ("memcheck", "racecheck")),
        Step(
            "bench, compiled",
            [[*bench, str(work / "compiled.jsonl"), *few, "--compile", "--only", "small" if rehearse else "COCO"]],
            200,
            work / "compiled.jsonl",
        ),
    ]


def sanitized(op: Op) -> list[str]:
    """The tests of an op that launch each of its kernels."""
    return [f"tests/kernels/{op.folder}/test_triton.py::{name}" for name in op.sanitized]


def _tests(name: str, tests: Sequence[str], limit: int, work: Path, processes: int) -> Step:
    """Tests in several processes."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "gpu_proof.pytest_journal", "-p", "no:cacheprovider", *tests]
    journal = work / f"{name}.jsonl"
    shares = [{"FCOS_JOURNAL": str(journal), "FCOS_SHARE": f"{share}/{processes}"} for share in range(processes)]
    return Step(name, [command] * processes, limit, journal, packages=TESTS, environments=shares)


def _sanitizer(tool: str, work: Path) -> Step:
    """The smoke tests, whose kernels Triton's cache has by now; without PyTorch's, so that every tensor has bounds."""
    tests = [test for op in OPS for test in sanitized(op)]
    plugin = ["-p", "gpu_proof.pytest_journal", "-p", "no:cacheprovider"]
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, "-m", "pytest", "-q"]
    journal = work / f"{tool}.jsonl"
    environment = {"PYTORCH_NO_CUDA_MEMORY_CACHING": "1", "FCOS_JOURNAL": str(journal)}
    return Step(
        tool, [[*command, *plugin, *tests]], 90, journal, needs=command[0], packages=TESTS, environments=[environment]
    )


def _toolkit(
    name: str, command: Sequence[str], limit: int, folder: Path | None = None, clears: Path | None = None
) -> Step:
    return Step(name, [command], limit, report="", packages=TOOLKIT, folder=folder, clears=clears)


def _trainings(toolkit: Sequence[str], work: Path, data: Path, rehearse: bool) -> list[Step]:
    """On real images, with the Triton kernels and with the plain ops, the same seed."""
    train = [*toolkit, "train", "bccd", "--set", f'data.dataset="{data}"', "--set", "train.log_every=25", "--json"]
    if rehearse:
        train = [*toolkit, "train", "shapes", "--dry-run", "--json"]
    folder = None if rehearse else data
    found = []
    for name, runs, choice in (("bccd", "fused", "auto"), ("bccd, plain ops", "plain", "reference")):
        command = [*train, "--run-dir", str(work / runs), "--set", f'train.kernels="{choice}"']
        found.append(_toolkit(name, command, 85, folder, work / runs))
    return found
