"""Run folders: where the parts of a training lie, and which run or weights a person means. Imports no torch."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fcos_cli.errors import WeightsError

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

    @property
    def weights(self) -> Path | None:
        """The best weights, else the last, in `checkpoints` or beside it; None where there are none."""
        folders = (self.checkpoints, self.path)
        files = [folder / name for folder in folders for name in (self.best.name, self.last.name)]
        return next((file for file in files if file.is_file()), None)


def find_weights(spec: str | Path) -> Path:
    """The weights file that `spec` means: the file itself, or a run's best, else its last.

    A run below `runs/` may be given by its name alone.

    Raises:
        WeightsError: there is none.
    """
    given = Path(spec).expanduser()
    for path in (given, RUNS / given):
        if path.is_file():
            return path
        if path.is_dir():
            if weights := RunFolder(path).weights:
                return weights
            raise WeightsError(
                f"{path} holds no weights: no best.safetensors or last.safetensors in its checkpoints folder",
                f"if its training was interrupted, go on with it: fcos train --resume {path}",
            )
    runs = _runs(given.parent if given.parent != Path(".") else RUNS) or _runs(RUNS)
    near = difflib.get_close_matches(given.name, [run.name for run in runs], n=3, cutoff=0.4)
    named = [str(run) for name in near for run in runs if run.name == name] or [str(run) for run in runs[:3]]
    hint = f"runs that hold weights: {', '.join(named)}" if named else "give a .safetensors file or a run folder"
    raise WeightsError(f"there are no weights at {spec}", hint)


def newest_run(root: str | Path = RUNS) -> Path:
    """The run folder below `root` whose weights were written last.

    Raises:
        WeightsError: no run holds weights.
    """
    runs = _runs(Path(root))
    if not runs:
        raise WeightsError(
            f"no trained detector: no run below {Path(root)}/ holds weights",
            "train one first (fcos train recipes/shapes.toml), or name the weights: "
            "fcos eval FILE, fcos predict ... --weights FILE",
        )
    return runs[0]


def resumable(wanted: Callable[[str], bool]) -> list[RunFolder]:
    """Run folders under `runs/` that hold a training state, newest first."""
    if not RUNS.is_dir():
        return []
    runs = [RunFolder(path) for path in RUNS.iterdir() if wanted(path.name)]
    return sorted((r for r in runs if r.state.is_file()), key=lambda r: r.state.stat().st_mtime, reverse=True)


def _runs(root: Path) -> list[Path]:
    """Run folders that hold weights, newest weights first."""
    if not root.is_dir():
        return []
    dated = [(weights.stat().st_mtime_ns, run) for run in root.iterdir() if (weights := RunFolder(run).weights)]
    return [run for _, run in sorted(dated, reverse=True)]
