"""What is odd about an image file that can be read all the same, said with the file's name.

Whoever listens (`listening`) gets every remark as a finding; else the first of each kind is logged. Pillow's own
warnings are remarks, too: by themselves they do not say which file they are about.
"""

import logging
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from fcos_cli.data.findings import Findings, Kind

logger = logging.getLogger(__name__)

PILLOW = Kind("warnings of Pillow while decoding")


class _Thread(threading.local):
    """The file that a thread is reading, and who listens."""

    path: Path | None = None
    findings: Findings | None = None


_here = _Thread()
_told: set[Kind] = set()
_shown_otherwise: list[Any] = []


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """While the block runs, remarks of this thread and warnings of Pillow are about this file."""
    if warnings.showwarning is not _show:
        _shown_otherwise[:] = [warnings.showwarning]
        # Pillow says a thing once for all files; behind the filters that are set already, so that these hold.
        warnings.filterwarnings("always", module=r"PIL\.", append=True)
        warnings.showwarning = _show
    before, _here.path = _here.path, path
    try:
        yield
    finally:
        _here.path = before


@contextmanager
def listening(findings: Findings) -> Iterator[None]:
    """While the block runs, remarks of this thread go into these findings."""
    before, _here.findings = _here.findings, findings
    try:
        yield
    finally:
        _here.findings = before


def remark(kind: Kind, detail: str = "") -> None:
    """Says something about the file that this thread is reading."""
    text = f"{_here.path}: {detail}" if detail else str(_here.path)
    if _here.findings is not None:
        _here.findings.add(kind, text)
        _told.add(kind)
    elif kind not in _told:
        _told.add(kind)
        logger.warning("%s: %s (said once; fcos data check DATA --images counts them)", text, kind.text)


def _show(message: Warning | str, category: type[Warning], filename: str, *others: Any, **named: Any) -> None:
    if _here.path is None:
        _shown_otherwise[0](message, category, filename, *others, **named)
    else:
        remark(PILLOW, str(message))
