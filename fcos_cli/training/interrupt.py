"""Ctrl-C and SIGTERM while training: finish the iteration, save, say how to go on."""

import logging
import signal
from types import FrameType
from typing import Self

logger = logging.getLogger(__name__)


class Interrupt:
    """Notes the first signal instead of dying; a second one stops at once.

    >>> with Interrupt() as interrupt: ...  # then look at `interrupt.requested`
    """

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> Self:
        self._former = {number: signal.signal(number, self._note) for number in (signal.SIGINT, signal.SIGTERM)}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def _note(self, number: int, frame: FrameType | None) -> None:
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        logger.info("stopping after this iteration; once more to stop at once")
