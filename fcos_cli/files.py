"""Files that are whole or not there: written beside their place, flushed to the disk, then moved in one step."""

import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

from fcos_cli.errors import SetupError, UsageError


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
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
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


def check_writable(path: str | Path) -> None:
    """Make sure, before long work starts, that a file can be written at `path`; makes its folder.

    Raises:
        UsageError: `path` is a folder.
        SetupError: the folder cannot be made or written to.
    """
    target = Path(path)
    if target.is_dir():
        raise UsageError(
            f"{target} is a folder, not a file to write", f"name a file in it, such as {target / 'out.json'}"
        )
    probe = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
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
