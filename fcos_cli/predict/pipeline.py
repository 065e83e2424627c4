"""What follows the network, beside it: pictures and files are made by threads while the next batch runs.

Reading and resizing ahead of the network is `data/loading/ahead.py`; between the two lies the network, in the caller's
thread.
"""

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import Generic, TypeVar

from fcos_cli.data.images import threads

T = TypeVar("T")
# Results on their way to the disk; the network waits when the disk or the drawing cannot follow.
LIMIT = 32


class Finisher(Generic[T]):
    """Results go in, in order; each is prepared by one of several threads, then written by a single one, in order.

    >>> with Finisher(draw, writer.add) as finisher: finisher.put(result)

    The block's end waits until everything is written, also when the block ends by Ctrl-C.

    Args:
        prepare: called in any of the threads, for several results at once; None where there is nothing to prepare.
        write: called in one thread, in the order of the results.
        limit: results that may be in here at once.

    Raises:
        Whatever `prepare` or `write` raises: at the next `put` or at the end. Nothing is written after it.
    """

    def __init__(
        self, prepare: Callable[[T], object] | None, write: Callable[[T], object], *, limit: int = LIMIT
    ) -> None:
        self._prepare, self._write = prepare, write
        self._places = threading.Semaphore(limit)
        self._queue: SimpleQueue[tuple[T, Future[object] | None] | None] = SimpleQueue()
        self._error: BaseException | None = None
        # The cores are the network's; drawing takes half of them at most.
        self._pool = ThreadPoolExecutor(max(1, threads() // 2), thread_name_prefix="finisher") if prepare else None
        self._thread = threading.Thread(target=self._work, name="finisher-writer", daemon=True)

    def __enter__(self) -> "Finisher[T]":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        self._queue.put(None)
        self._thread.join()
        if self._pool:
            self._pool.shutdown(cancel_futures=True)
        # Ctrl-C says less than a disk that is full; another error in the block came first.
        if self._error and (kind is None or issubclass(kind, KeyboardInterrupt)):
            raise self._error

    def put(self, result: T) -> None:
        """Hands over one result; waits for a place."""
        self._places.acquire()
        if self._error:
            raise self._error
        self._queue.put((result, self._pool.submit(self._prepare, result) if self._pool and self._prepare else None))

    def _work(self) -> None:
        while (item := self._queue.get()) is not None:
            result, prepared = item
            try:
                if self._error is None:
                    if prepared:
                        prepared.result()
                    self._write(result)
            # Raised in the thread that can tell the user.
            except BaseException as error:
                self._error = error
            finally:
                self._places.release()
