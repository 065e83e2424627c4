"""Where long work in a library tells how far it is. Nobody sees it until a program gives `shown` something to show it.

`report/console.py` does so for the command line, as its handler does for `logging`.
"""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol


class Advance(Protocol):
    """Called with the number of items that are finished."""

    def __call__(self, count: int = 1) -> None: ...


Bar = Callable[[str, int | None], AbstractContextManager[Advance]]
"""A label and the number of items, None where it is unknown -> a context in which the work is done."""


@contextmanager
def _unseen(label: str, total: int | None) -> Iterator[Advance]:
    def advance(count: int = 1) -> None:
        pass

    yield advance


_bar: Bar = _unseen


def progress(label: str, total: int | None) -> AbstractContextManager[Advance]:
    """A context for `total` items of work, which yields a function to call as they are finished.

    >>> with progress("reading", 10) as advance: advance(1)
    """
    return _bar(label, total)


@contextmanager
def shown(bar: Bar) -> Iterator[None]:
    """Shows progress by `bar` while the block runs."""
    global _bar
    former, _bar = _bar, bar
    try:
        yield
    finally:
        _bar = former
