"""Run folders: `runs/<recipe>-<time>/` holds all that a training leaves behind."""

import json
import os
import platform
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import torch

from fcos_cli import __version__
from fcos_cli.errors import SetupError, UsageError
from fcos_cli.recipe.load import LoadedRecipe, bundled, to_toml

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
    def environment(self) -> Path:
        return self.path / "environment.json"

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

    A training that stopped before its first checkpoint left nothing to keep: its folder is used again.

    Raises:
        UsageError: the folder already holds a run.
        SetupError: it cannot be made or written to.
    """
    path = folder or RUNS / f"{loaded.name.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    run = RunFolder(path)
    checkpoints = (run.state, run.last, run.best)
    if run.environment.is_file() and run.recipe.is_file() and not any(file.is_file() for file in checkpoints):
        discard_run(run)
    taken = next((file for file in (*_plain_files(run), *checkpoints) if file.exists()), None)
    if taken is not None:
        raise UsageError(
            f"{path} already holds a run: {taken.relative_to(path)}",
            f"choose another --run-dir, or go on with it: fcos train --resume {path}",
        )
    try:
        for part in (run.checkpoints, run.evaluation, run.pictures):
            part.mkdir(parents=True, exist_ok=True)
        run.recipe.write_text(to_toml(loaded.recipe), encoding="utf-8")
        run.environment.write_text(json.dumps(environment(), indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise SetupError(f"cannot write the run folder {path}: {error.strerror}", "choose another --run-dir") from error
    return run


def discard_run(run: RunFolder) -> None:
    """Takes away what a training leaves before its first checkpoint; files of others in the folder stay."""
    with suppress(OSError):
        for file in _plain_files(run):
            file.unlink(missing_ok=True)
        for folder in (run.checkpoints, run.evaluation, run.pictures, run.path):
            if folder.is_dir():
                folder.rmdir()


def _plain_files(run: RunFolder) -> tuple[Path, ...]:
    return run.recipe, run.environment, run.log, run.metrics


def find_run(which: str | None, recipe_name: str | None) -> RunFolder:
    """The run folder that was named, or the newest resumable one (of a recipe, where one is given).

    A run below `runs/` may be given by its name alone.

    Raises:
        UsageError: there is none to resume.
    """
    if which is not None:
        runs = [RunFolder(path) for path in (Path(which).expanduser(), RUNS / which)]
        if run := next((run for run in runs if run.state.is_file()), None):
            return run
        if any(run.recipe.is_file() for run in runs):
            raise UsageError(f"{which} has no checkpoint to resume from", "start again with the same --run-dir")
        is_recipe = which in bundled() and not runs[0].path.is_dir()
        newest = f"the newest run of that recipe: fcos train {which} --resume; " if is_recipe else ""
        raise UsageError(f"{which} is not a run folder", f"{newest}resumable runs: {_names(resumable(lambda _: True))}")
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
