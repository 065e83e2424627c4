"""A data set's boxes in parts of whole images, worked on by several processes; order and result are the same."""

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from typing import TypeVar

import numpy as np

from fcos_cli.cores import available_cores
from fcos_cli.errors import SetupError
from fcos_cli.interrupts import ignore_interrupts, interrupts_held
from fcos_cli.stats.boxes import NetworkBoxes, Setting

IMAGES_PER_PART, BOXES_PER_PART, LOCATIONS_PER_PART = 100, 10_000, 4_000_000
SECONDS_WORTH_A_PROCESS = 2.0

Step = Callable[[int], None]
Columns = tuple[np.ndarray, ...]
T = TypeVar("T")


def worthwhile_processes(seconds: float, asked: int | None = None) -> int:
    """Processes for work of about that many seconds: as many as asked for, else one more for every two seconds, at most
    one a core. A process takes half a second to start."""
    if asked:
        return asked
    return max(1, min(available_cores(), int(seconds / SECONDS_WORTH_A_PROCESS)))


def map_parts(
    work: Callable[[NetworkBoxes, Columns, Setting], T],
    boxes: NetworkBoxes,
    columns: Sequence[np.ndarray],
    setting: Setting,
    *,
    workers: int = 1,
    step: Step | None = None,
) -> Iterator[T]:
    """Results of `work` on parts of the boxes, in the order of the images. Parts do not depend on `workers`.

    Args:
        work: a function of a module, without state: (part of the boxes, part of the columns, setting) -> result.
        columns: arrays [T, ...] that go with the boxes.
        workers: processes; 1 works in this one.
        step: told the number of images that are finished, part by part.

    Raises:
        SetupError: a process was killed, for want of memory most likely.
    """
    runs = list(parts(boxes, setting))
    tasks = (_task(boxes, columns, run, setting) for run in runs)
    workers = min(workers, len(runs))
    results = (work(*task) for task in tasks) if workers <= 1 else _in_processes(work, tasks, workers)
    for (begin, end), result in zip(runs, results, strict=True):
        if step is not None:
            step(end - begin)
        yield result


def parts(boxes: NetworkBoxes, setting: Setting) -> Iterator[tuple[int, int]]:
    """(first image, one past the last): a bounded number of images, boxes and locations, but at least one image.

    Of no images there is one part, without any.
    """
    begin, images = 0, len(boxes.offsets) - 1
    if not images:
        yield 0, 0
    locations = setting.pyramid.grids_of(boxes.padded).prod(axis=2).sum(axis=1)
    bounded = ((boxes.offsets, BOXES_PER_PART), (np.concatenate([[0], np.cumsum(locations)]), LOCATIONS_PER_PART))
    while begin < images:
        fits = (int(np.searchsorted(ends, ends[begin] + most, side="right")) - 1 for ends, most in bounded)
        end = max(min(*fits, begin + IMAGES_PER_PART, images), begin + 1)
        yield begin, end
        begin = end


def part_of(boxes: NetworkBoxes, begin: int, end: int) -> NetworkBoxes:
    """The boxes of the images begin .. end - 1; their `rows` go on pointing into the data set."""
    first, last = boxes.offsets[[begin, end]].tolist()
    return NetworkBoxes(
        boxes.boxes[first:last],
        boxes.offsets[begin : end + 1] - first,
        boxes.rows[first:last],
        boxes.padded[begin:end],
        {},
    )


def _task(
    boxes: NetworkBoxes, columns: Sequence[np.ndarray], run: tuple[int, int], setting: Setting
) -> tuple[NetworkBoxes, Columns, Setting]:
    first, last = boxes.offsets[list(run)].tolist()
    return part_of(boxes, *run), tuple(column[first:last] for column in columns), setting


def _in_processes(
    work: Callable[[NetworkBoxes, Columns, Setting], T],
    tasks: Iterator[tuple[NetworkBoxes, Columns, Setting]],
    workers: int,
) -> Iterator[T]:
    """Ends with its caller: Ctrl-C cancels what has not begun. At most two tasks a process wait for their turn."""
    pool = ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), ignore_interrupts)
    try:
        waiting = []
        for task in tasks:
            with interrupts_held():
                waiting.append(pool.submit(work, *task))
            if len(waiting) > 2 * workers:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()
    except BrokenProcessPool:
        raise SetupError("a worker process died, most likely for want of memory", "try --workers 1") from None
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
