"""Training batches made by other processes: started, read ahead of, and ended whatever happens."""

import atexit
import os
import signal
import sys
from collections.abc import Generator, Iterable
from contextlib import suppress
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fcos_cli.cores import available_cores
from fcos_cli.data.loading.batches import Failure, PackedBatch, TrainBatches
from fcos_cli.errors import DataError, SetupError
from fcos_cli.interrupts import ignore_interrupts, interrupts_held

MAX_AUTO_WORKERS = 8

_RUNNING: list[Any] = []


def choose_workers(requested: int) -> int:
    """Processes to load with; -1 chooses: one less than this rank's cores, at most 8, none on a single core.

    The main process keeps a core: on two cores one worker already prepares the next batch while the network runs.
    """
    if requested >= 0:
        return requested
    ranks = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return max(0, min(MAX_AUTO_WORKERS, available_cores() // ranks - 1))


class _Pinnable:
    """A packed batch with its pixels as a tensor: the one part that is large enough to share and to pin."""

    def __init__(self, content: PackedBatch | Failure, pixels: Tensor) -> None:
        self.content, self.pixels = content, pixels

    def pin_memory(self) -> "_Pinnable":
        return _Pinnable(self.content, self.pixels.pin_memory())


class _Loading(Dataset[_Pinnable]):
    def __init__(self, batches: TrainBatches) -> None:
        self.batches = batches

    def __getitem__(self, number: int) -> _Pinnable:
        content = self.batches[number]
        if isinstance(content, Failure):
            return _Pinnable(content, torch.zeros(0, dtype=torch.uint8))
        pixels, content.pixels = torch.from_numpy(content.pixels), np.zeros(0, dtype=np.uint8)
        return _Pinnable(content, pixels)


def run_ahead(
    batches: TrainBatches, numbers: Iterable[int], workers: int
) -> Generator[tuple[PackedBatch, Tensor], None, None]:
    """Loads the numbered batches in order, at most two ahead per worker. The workers end with the iterator.

    The data set reaches workers by fork where the platform forks. Its columns are arrays, which stay shared; the list
    of file names is the one part whose pages get copied as reference counts change (10 MB for COCO's 118k).
    """
    loader: DataLoader[Any] = DataLoader(
        _Loading(batches),
        sampler=numbers,
        batch_size=None,
        collate_fn=_unchanged,
        num_workers=workers,
        prefetch_factor=2 if workers else None,
        pin_memory=torch.cuda.is_available(),
        worker_init_fn=_start_worker,
        # A generator of its own: without one, torch would draw from the global stream and a resumed run would differ.
        generator=torch.Generator().manual_seed(0),
    )
    with interrupts_held():
        iterator = iter(loader)
    _RUNNING.append(iterator)
    try:
        while True:
            try:
                loaded = next(iterator)
            except StopIteration:
                return
            except (EOFError, ConnectionError) as error:  # it died while it handed a batch over
                raise _worker_died(error) from None
            except RuntimeError as error:
                if "DataLoader worker" not in str(error) or "Traceback" in str(error):
                    raise
                raise _worker_died(error) from None
            if isinstance(loaded.content, Failure):
                raise DataError(loaded.content.message, loaded.content.hint)
            yield loaded.content, loaded.pixels
    finally:
        _RUNNING.remove(iterator)
        _shut_down(iterator)


def _shut_down(iterator: Any) -> None:
    """Ends an iterator's workers now: an error's traceback may keep it alive, and a late signal of a worker's death
    would then interrupt whatever runs."""
    if hasattr(iterator, "_shutdown_workers"):
        with suppress(RuntimeError):  # that signal, while the workers are waited for
            iterator._shutdown_workers()


def _worker_died(error: Exception) -> SetupError:
    return SetupError(
        f"a loader process died: {error or type(error).__name__}",
        "memory or /dev/shm may be full: fewer workers (--set data.workers=0) or a larger --shm-size",
    )


def _end_workers() -> None:
    """Ends the workers of loaders that nobody closed: at exit they would be waited for, and they ignore SIGTERM."""
    for iterator in _RUNNING:
        _shut_down(iterator)


# Registered after multiprocessing's own exit handler, so it runs before it.
atexit.register(_end_workers)


def _unchanged(loaded: Any) -> Any:
    return loaded


def _start_worker(worker: int) -> None:
    """Ctrl-C and a terminated process group are the main process's to handle; it ends the workers when it is done."""
    ignore_interrupts()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.excepthook = _but_lost_connections


def _but_lost_connections(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """For the thread that hands batches over: that the main process has gone is nothing to print."""
    if not issubclass(kind, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)
