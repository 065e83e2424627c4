"""Names of temporary files and folders, by which those that a killed process left are known and swept away.

`.NAME.HOST-PID-RANDOM.tmp`, beside the place that it is written for. One is swept where its process has ended: on
this machine the number tells. Of one from another machine (or of an older toolkit, without the two) that cannot be
known: a file that nobody has written to for an hour is swept, a folder stays.
"""

import os
import platform
import re
import secrets
import shutil
import sys
import time
import zlib
from contextlib import suppress
from pathlib import Path

UNTOUCHED_SECONDS = 3600
_NAME = re.compile(r"\.(?P<name>.+)\.(?:(?P<host>[0-9a-f]{4})-(?P<pid>\d+)-[0-9a-f]{4}|[0-9a-f]{8})\.tmp", re.DOTALL)
_made: set[str] = set()
"""Names made by this process: a former one may have had its number."""


def temporary_for(target: Path) -> Path:
    """A name beside `target` that nobody else has."""
    name = f".{target.name}.{_host()}-{os.getpid()}-{secrets.token_hex(2)}.tmp"
    _made.add(name)
    return target.with_name(name)


def sweep(folder: Path, name: str | None = None) -> None:
    """Removes what killed processes left in a folder: for the target `name`, or for all. Errors are passed over."""
    with suppress(OSError):
        for entry in list(os.scandir(folder)):
            found = _NAME.fullmatch(entry.name)
            if found and name in (None, found["name"]) and _left(entry, found["host"], found["pid"]):
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path, ignore_errors=True)
                else:
                    with suppress(OSError):
                        os.unlink(entry.path)


def _left(entry: "os.DirEntry[str]", host: str | None, pid: str | None) -> bool:
    """Whether no process will go on with it."""
    if host == _host() and pid is not None and sys.platform != "win32":
        return entry.name not in _made if int(pid) == os.getpid() else not _runs(int(pid))
    if entry.is_dir(follow_symlinks=False):
        return False
    return time.time() - entry.stat(follow_symlinks=False).st_mtime > UNTOUCHED_SECONDS


def _runs(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


def _host() -> str:
    return f"{zlib.crc32(platform.node().encode()) & 0xFFFF:04x}"
