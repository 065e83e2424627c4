"""Results as JSON lines, each appended as it comes, so that what a killed process had found is there the next time."""

import json
import os
from pathlib import Path
from typing import Any


def append(path: Path, record: dict[str, Any]) -> None:
    """Adds a line, on the disk when this returns. Several processes may append to one file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # it begins with a line break, too: what a killed process wrote in part ends there
    line = b"\n" + json.dumps(record).encode() + b"\n"
    file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    try:
        os.write(file, line)
        os.fsync(file)
    finally:
        os.close(file)


def read(path: Path) -> list[dict[str, Any]]:
    """All whole lines; none of a file that is not there."""
    records = []
    try:
        lines = path.read_bytes().split(b"\n")
    except FileNotFoundError:
        return []
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            records.append(record)
    return records
