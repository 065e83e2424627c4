"""Work done in threads ahead of whoever needs it, in order and within a bound. Knows nothing of images; no torch.

Threads, not processes: Pillow decodes and resizes without holding the interpreter's lock, pixels stay where they are
instead of crossing through shared memory, and there is nothing to start, to fork or to clean up after Ctrl-C.
"""

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from queue import Full, Queue
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def groups_ahead(
    groups: Iterable[Sequence[T]], work: Callable[[T], R], *, threads: int, ahead: int
) -> Iterator[list[R]]:
    """`[work(item) for item in group]` of each group in order, with the next ones under way.

    Args:
        groups: drawn one at a time, never more than `ahead` before they are asked for.
        work: called in a thread, once an item.
        threads: how many items are worked on at once; 0 does the work when a group is asked for.
        ahead: groups that may be under way or waiting while the caller is busy with the one before them.

    Raises:
        Whatever `work` raises, when the group's turn comes.
    """
    if threads <= 0:
        for group in groups:
            yield [work(item) for item in group]
        return
    pool = ThreadPoolExecutor(threads, thread_name_prefix="ahead")
    pending: deque[list[Future[R]]] = deque()
    remaining = iter(groups)
    try:
        while True:
            while len(pending) < ahead + 1:
                following: Sequence[T] | None = next(remaining, None)
                if following is None:
                    break
                pending.append([pool.submit(work, item) for item in following])
            if not pending:
                return
            yield [future.result() for future in pending.popleft()]
    finally:
        pool.shutdown(wait=True, cancel_futures=True)


def drawn_ahead(items: Iterable[T], limit: int) -> Iterator[T]:
    """The same items, drawn in a thread of their own at most `limit` ahead: for what comes only one after another.

    Raises:
        Whatever `items` raises, after the items before it.
    """
    queue: Queue[tuple[str, Any]] = Queue(maxsize=limit)
    stopped = threading.Event()

    def put(kind: str, value: Any) -> None:
        while not stopped.is_set():
            try:
                queue.put((kind, value), timeout=0.1)
                return
            except Full:
                continue

    def draw() -> None:
        try:
            for item in items:
                put("item", item)
                if stopped.is_set():
                    return
            put("end", None)
        # Anything may go wrong in there; it is raised where the items are used.
        except BaseException as error:
            put("error", error)

    thread = threading.Thread(target=draw, name="drawn-ahead", daemon=True)
    thread.start()
    try:
        while True:
            kind, value = queue.get()
            if kind == "end":
                return
            if kind == "error":
                raise value
            yield value
    finally:
        stopped.set()
        thread.join()
