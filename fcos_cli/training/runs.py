"""Run folders: `runs/<recipe>-<time>/` holds all that a training leaves behind."""

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from fcos_cli import __version__
from fcos_cli.errors import SetupError, UsageError
from fcos_cli.recipe.load import LoadedRecipe, to_toml

RUNS = Path("runs")


@dataclass(frozen=True)
class RunFolder:
    """Where the parts of a run lie."""

    path: Path

    @property
    def recipe(self) -> Path:
        return self.path / "recipe.toml"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @property
    def log(self) -> Path:
        return self.path / "log.txt"

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def last(self) -> Path:
        return self.checkpoints / "last.safetensors"

    @property
    def best(self) -> Path:
        return self.checkpoints / "best.safetensors"

    @property
    def state(self) -> Path:
        return self.checkpoints / "last.state.pt"

    @property
    def evaluation(self) -> Path:
        return self.path / "evaluation"

    @property
    def pictures(self) -> Path:
        return self.path / "pictures"


def create_run(loaded: LoadedRecipe, folder: Path | None) -> RunFolder:
    """Makes a new run folder and writes the resolved recipe and the environment into it.

    Raises:
        UsageError: the folder already holds a run.
        SetupError: it cannot be made or written to.
    """
    path = folder or RUNS / f"{loaded.name.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    run = RunFolder(path)
    if run.recipe.exists():
        raise UsageError(
            f"{path} already holds a run", f"choose another --run-dir, or go on with it: fcos train --resume {path}"
        )
    try:
        for part in (run.checkpoints, run.evaluation, run.pictures):
            part.mkdir(parents=True, exist_ok=True)
        run.recipe.write_text(to_toml(loaded.recipe), encoding="utf-8")
        (path / "environment.json").write_text(json.dumps(environment(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise SetupError(f"cannot write the run folder {path}: {error.strerror}", "choose another --run-dir") from error
    return run


def find_run(which: str | None, recipe_name: str | None) -> RunFolder:
    """The run folder that was named, or the newest resumable one (of a recipe, where one is given).

    Raises:
        UsageError: there is none to resume.
    """
    if which is not None:
        run = RunFolder(Path(which))
        if not run.state.is_file():
            reason = "is not a run folder" if not run.recipe.is_file() else "has no checkpoint to resume from"
            raise UsageError(f"{which} {reason}", f"resumable runs: {_names(resumable(lambda _: True))}")
        return run
    stem = recipe_name.replace("/", "-") if recipe_name else ""
    found = resumable(lambda name: not stem or name.startswith(f"{stem}-"))
    if not found:
        of = f" of the recipe {recipe_name}" if recipe_name else ""
        raise UsageError(
            f"no run{of} to resume under {RUNS}/", f"start one: fcos train {recipe_name or 'recipes/shapes.toml'}"
        )
    return found[0]


def resumable(wanted: Callable[[str], bool]) -> list[RunFolder]:
    """Run folders under `runs/` that hold a training state, newest first."""
    if not RUNS.is_dir():
        return []
    runs = [RunFolder(path) for path in RUNS.iterdir() if wanted(path.name)]
    return sorted((r for r in runs if r.state.is_file()), key=lambda r: r.state.stat().st_mtime, reverse=True)


def _names(runs: list[RunFolder]) -> str:
    return ", ".join(str(run.path) for run in runs[:5]) or "none"


def environment() -> dict[str, object]:
    """What a run was computed with: versions, machine, command line."""
    return {
        "command": sys.argv,
        "fcos": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda,
        "devices": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
        "cpu": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "platform": platform.platform(),
        "world_size": int(os.environ.get("WORLD_SIZE", "1")),
    }
