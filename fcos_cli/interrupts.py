"""Ctrl-C belongs to the main process: it ends the processes that it has started. Imports nothing of the toolkit."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def interrupts_held() -> Iterator[None]:
    """Ctrl-C waits meanwhile. Processes that start in here inherit that, so that none of them prints a traceback."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def ignore_interrupts() -> None:
    """In a process that another one has started: Ctrl-C, which reaches them all, is the other one's to handle."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
