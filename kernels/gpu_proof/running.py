"""Runs one step and says what became of it."""

import ctypes
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcos_kernels.bench import journal
from gpu_proof.missing import packages
from gpu_proof.steps import Step

TAIL_LINES = 12
NOTHING_LEFT = 5
"""Exit code of pytest where all of its tests were left out."""


@dataclass
class Done:
    """What became of a step.

    outcome: "passed", "failed: why", "too slow" (its own limit), "cut" (the time for all), or "left out: why".
    figures: what it reported; of a step with cases how many passed, failed, were skipped, and those that failed.
    """

    name: str
    outcome: str
    seconds: float
    tail: list[str]
    figures: Any = None

    @property
    def final(self) -> bool:
        """Whether a resumed run does not take it up again."""
        return self.outcome.startswith(("passed", "failed"))


def run(step: Step, work: Path, root: Path, left: float, site: Path | None) -> Done:
    """Runs a step to its end, to its limit, or for the seconds that are left."""
    missing = _missing(step, site)
    if missing:
        return Done(step.name, f"left out: {missing}", 0.0, [])
    started, limit = time.perf_counter(), min(step.limit, left)
    logs = [
        work / "logs" / f"{step.name}.{place}.{kind}" for place in range(len(step.commands)) for kind in ("out", "err")
    ]
    logs[0].parent.mkdir(parents=True, exist_ok=True)
    if step.clears is not None:
        shutil.rmtree(step.clears, ignore_errors=True)
    processes = []
    for place, command in enumerate(step.commands):
        environment = _environment(step.environments[place % len(step.environments)], work, root, site)
        with logs[2 * place].open("wb") as out, logs[2 * place + 1].open("wb") as err:
            processes.append(
                subprocess.Popen(
                    command,
                    cwd=root,
                    env=environment,
                    stdout=out,
                    stderr=err,
                    start_new_session=True,
                    preexec_fn=_end_with_parent,
                )
            )
    late = _wait(processes, started + limit)
    codes = [process.returncode for process in processes]
    seconds = round(time.perf_counter() - started, 1)
    printed = [log.read_text(errors="replace") for log in logs]
    wrong = [code for code in codes if code and not (step.journal and code == NOTHING_LEFT)]
    outcome = f"failed: exit code {wrong[0]}" if wrong else "passed"
    if late:
        outcome = "too slow" if step.limit <= left else "cut"
    figures = _figures(step, printed[0])
    if step.journal is not None and not late and isinstance(figures, dict) and figures.get("failed"):
        outcome = f"failed: {figures['failed']} cases"
    shown = "".join(printed) if outcome != "passed" else printed[1 if step.report == "" else 0]
    return Done(step.name, outcome, seconds, shown.splitlines()[-TAIL_LINES:], figures)


def _missing(step: Step, site: Path | None) -> str:
    if step.needs and not shutil.which(step.needs):
        return f"no {step.needs} here"
    if step.folder is not None and not step.folder.is_dir():
        return f"no folder {step.folder}"
    if site is not None and str(site) not in sys.path:
        sys.path.insert(0, str(site))
    return f"missing {', '.join(packages(step.packages))}" if packages(step.packages) else ""


def _environment(own: dict[str, str], work: Path, root: Path, site: Path | None) -> dict[str, str]:
    """Caches that all steps share, so that nothing is compiled twice."""
    paths = [str(root), str(root / "kernels"), *([str(site)] if site else [])]
    paths += filter(None, [os.environ.get("PYTHONPATH")])
    caches = {"TRITON_CACHE_DIR": str(work / "triton-cache"), "TORCHINDUCTOR_CACHE_DIR": str(work / "inductor-cache")}
    return {**os.environ, **caches, **own, "PYTHONPATH": os.pathsep.join(paths)}


def _end_with_parent() -> None:
    """Where this script is killed its processes are, too: a resumed run would meet them."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)


def _wait(processes: "list[subprocess.Popen[bytes]]", end: float) -> bool:
    """Until all have ended, or, ending them, until `end`; whether that was needed."""
    late = False
    for process in processes:
        try:
            process.wait(max(0.0, end - time.perf_counter()))
        except subprocess.TimeoutExpired:
            late = True
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
    return late


def _figures(step: Step, printed: str) -> Any:
    if step.journal is not None:
        return summary(step.journal)
    if step.report is None:
        return None
    try:
        return json.loads(Path(step.report).read_text(encoding="utf-8") if step.report else printed)
    except (OSError, ValueError) as error:
        return {"unreadable": str(error)}


def summary(path: Path) -> dict[str, Any]:
    """Of a journal: a benchmark's results, or how many tests passed, failed and were skipped, and why."""
    records = journal.read(path)
    results = [record for record in records if "ms" in record]
    wrong = [record for record in records if "wrong" in record or record.get("outcome") == "failed"]
    outcomes = [record["outcome"] for record in records if "outcome" in record]
    found: dict[str, Any] = {"failed": len(wrong), "failures": wrong}
    machines = [record["machine"] for record in records if "machine" in record]
    if machines:
        return found | {"machine": machines[-1], "results": results}
    kernels: dict[str, int] = {}
    for record in records:
        for what, count in record.get("kernels", {}).items():
            kernels[what] = kernels.get(what, 0) + count
    counts = {outcome: outcomes.count(outcome) for outcome in ("passed", "skipped")}
    return found | counts | {"seconds": round(sum(r.get("seconds", 0) for r in records), 1), "kernels": kernels}
