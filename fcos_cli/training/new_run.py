"""A new run folder, `runs/<recipe>-<time>/`: made with its recipe and environment, or taken away again."""

import json
import os
import platform
import sys
import time
from contextlib import suppress
from pathlib import Path

import torch

from fcos_cli.errors import SetupError, UsageError
from fcos_cli.recipe.load import LoadedRecipe, to_toml
from fcos_cli.runs import RUNS, RunFolder
from fcos_cli.version import __version__


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
