"""Locks between processes: files that one of them holds, until it lets go or ends, however it ends."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout


class HeldError(Exception):
    """Another process holds the lock."""


@contextmanager
def held(path: Path, *, wait: bool = True, remove: bool = False) -> Iterator[None]:
    """Holds the lock file at `path` while the block runs; the folder must be there.

    On a file system without locks (some network ones) the block runs without.

    Args:
        path: of a file that is for this alone.
        wait: for another process to let go.
        remove: the file at the end.

    Raises:
        HeldError: `wait` is off, and another process holds it.
        OSError: the file cannot be made.
    """
    path.open("a").close()
    lock = FileLock(path, timeout=-1 if wait else 0)
    try:
        lock.acquire()
    except Timeout:
        raise HeldError(str(path)) from None
    except (OSError, NotImplementedError):  # a file system without locks
        pass
    try:
        yield
    finally:
        if remove:
            # While it is held, so that nobody waits for a file that is no more; Windows lets nobody remove an open one.
            with suppress(OSError):
                path.unlink()
        lock.release()
