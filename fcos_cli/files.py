"""Files and folders that are whole or not there: written beside their place, then moved in one step."""

import hashlib
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from fcos_cli.errors import SetupError, UsageError
from fcos_cli.temporary import sweep, temporary_for


@contextmanager
def atomic_file(path: str | Path, mode: str = "wb") -> Iterator[IO[Any]]:
    """A file to write; it takes its place at `path` when the block ends well.

    Whatever goes wrong (disk full, Ctrl-C), an older file at `path` stays as it was and the temporary file is removed.
    Makes the folder where it is missing.

    Args:
        path: the file to write.
        mode: "wb", or "w" for UTF-8 text.

    Raises:
        OSError: the file cannot be written.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_for(target)
    try:
        with open(temporary, mode, encoding=None if "b" in mode else "utf-8") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        with suppress(OSError):
            temporary.unlink()
        raise
    sync_folder(target.parent)


@contextmanager
def atomic_folder(path: str | Path) -> Iterator[Path]:
    """A folder to fill; it takes its place at `path` when the block ends well, else nothing of it stays.

    Sweeps away what killed processes left of it.

    Raises:
        UsageError: `path` exists and is no empty folder.
        OSError: it cannot be written.
    """
    target = Path(os.path.abspath(path))
    check_absent(target)
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent, target.name)
    temporary = temporary_for(target)
    try:
        temporary.mkdir()
        yield temporary
        os.replace(temporary, target)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync_folder(target.parent)


def check_absent(path: str | Path) -> None:
    """Make sure that a folder to be made is not there yet; an empty one may be.

    Raises:
        UsageError: there is a file, or a folder that holds something.
    """
    target = Path(path)
    if target.is_symlink() or (target.exists() and not target.is_dir()) or (target.is_dir() and any(target.iterdir())):
        raise UsageError(f"{path} exists, and nothing is written over", "name a folder that is not there yet")


def check_writable(path: str | Path) -> None:
    """Make sure, before long work starts, that a file can be written at `path`; makes its folder.

    Sweeps away what killed processes left of it.

    Raises:
        UsageError: `path` is a folder.
        SetupError: the folder cannot be made or written to.
    """
    target = Path(path)
    if target.is_dir():
        raise UsageError(
            f"{target} is a folder, not a file to write", f"name a file in it, such as {target / 'out.json'}"
        )
    probe = temporary_for(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        sweep(target.parent, target.name)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise SetupError(f"cannot write {target}: {error.strerror}", "choose a place that you may write to") from error


def sha256_of(path: str | Path) -> str:
    """The SHA-256 of a file's contents, in hexadecimal.

    Raises:
        OSError: it cannot be read.
    """
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def sync_folder(folder: Path) -> None:
    """Flush a folder's entries to the disk, where the system can: a rename is not safe before that."""
    with suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
