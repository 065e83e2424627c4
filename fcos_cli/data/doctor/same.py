"""Files of the same bytes, found without reading most of them: by size, then by both ends, then by all of it."""

import hashlib
import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from fcos_cli.data.images import threads
from fcos_cli.files import sha256_of

_END = 1 << 12


def same_files(paths: Sequence[Path]) -> list[list[int]]:
    """Positions of files that hold the same bytes, in groups of two and more.

    A path that is listed twice is the same file. Files that are missing, cannot be read or are empty belong to no
    group. 118,000 files of photographs: a header each, and a few bytes of those whose size another one has.
    """
    groups = _split([list(range(len(paths)))], lambda i: _size(paths[i]))
    groups = _split(groups, lambda i: _ends(paths[i]))
    return _split(groups, lambda i: _whole(paths[i]))


def _split(groups: Iterable[list[int]], key: Callable[[int], object]) -> list[list[int]]:
    """Each group parted by a key, without those that are alone; None belongs nowhere."""
    parted = []
    with ThreadPoolExecutor(max_workers=threads()) as pool:
        for group in groups:
            parts: dict[object, list[int]] = {}
            for index, value in zip(group, pool.map(key, group), strict=True):
                if value is not None:
                    parts.setdefault(value, []).append(index)
            parted += [part for part in parts.values() if len(part) > 1]
    return parted


def _size(path: Path) -> int | None:
    try:
        return os.stat(path).st_size or None
    except (OSError, ValueError):
        return None


def _ends(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            head = file.read(_END)
            file.seek(-min(_END, os.fstat(file.fileno()).st_size), os.SEEK_END)
            return hashlib.sha256(head + file.read()).digest()
    except OSError:
        return None


def _whole(path: Path) -> str | None:
    try:
        return sha256_of(path)
    except OSError:
        return None
