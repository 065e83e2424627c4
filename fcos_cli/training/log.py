"""A run's diary: lines for people (screen, log.txt), rows for programs (metrics.jsonl), a bar on a terminal."""

import json
import logging
import time
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from fcos_cli.files import atomic_file
from fcos_cli.report import console
from fcos_cli.runs import RunFolder

logger = logging.getLogger(__name__)


class TrainingLog:
    """Writes what happens; silent on processes other than the main one.

    Args:
        run: the run folder, or None to write nothing (a dry run).
        main: whether this process speaks.
    """

    def __init__(self, run: RunFolder | None, main: bool) -> None:
        self.run, self.main = run, main
        self._bar: Progress | None = None

    def say(self, message: str) -> None:
        """A line on the screen and in log.txt."""
        if self.main:
            logger.info("%s", message)
        self.note(message)

    def note(self, message: str) -> None:
        """A line in log.txt alone: the screen is told in another way."""
        if self.main and self.run is not None:
            with open(self.run.log, "a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')} {message}\n")

    def row(self, values: dict[str, Any]) -> None:
        """A row of metrics.jsonl."""
        if self.main and self.run is not None:
            with open(self.run.metrics, "a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")

    def show_progress(self, done: int, total: int, text: str) -> None:
        """Moves the bar, on a terminal."""
        if not self.main or not console.log.is_terminal:
            return
        if self._bar is None:
            columns = (BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
            self._bar = Progress(*columns, console=console.log, transient=True)
            self._bar.add_task("", total=total)
            self._bar.start()
        self._bar.update(self._bar.task_ids[0], completed=done, description=text)

    def hide_progress(self) -> None:
        """Takes the bar away, so that something else can draw."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a metrics.jsonl; a last line that was cut off by a kill is left out."""
    rows = []
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(json.loads(line))
            except json.JSONDecodeError:
                break
    return rows


def forget_after(path: Path, iteration: int) -> None:
    """Drops the rows later than the checkpoint that a run resumes from: they will be written again."""
    kept = [row for row in read_rows(path) if row["iteration"] <= iteration]
    with atomic_file(path, "w") as file:
        file.writelines(json.dumps(row) + "\n" for row in kept)


def evaluated(path: Path) -> set[int]:
    """The iterations that a metrics.jsonl has an evaluation of."""
    return {row["iteration"] for row in read_rows(path) if "AP" in row}


def duration(seconds: float) -> str:
    """Seconds as 1:02:03 or 2:03."""
    hours, rest = divmod(round(seconds), 3600)
    minutes, left = divmod(rest, 60)
    return f"{hours}:{minutes:02d}:{left:02d}" if hours else f"{minutes}:{left:02d}"
