"""Batches for training and evaluation, as torch tensors, read ahead of the network: by processes, by threads.

Training: batch k depends on (data, config, batch size, seed, k) alone: not on the iteration it starts from, the number
of workers or the number of ranks. A single image that cannot be read does not end a training: it is replaced and named
once; many of them do.
"""

import atexit
import itertools
import os
import signal
import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from fcos_cli.data.ahead import groups_ahead
from fcos_cli.data.batches import EvalImages, Failure, PackedBatch, TrainBatches, columns
from fcos_cli.data.images import image_sizes, read_from_folder
from fcos_cli.data.records import DetectionData
from fcos_cli.data.sampling import BatchPlan, aspect_groups
from fcos_cli.data.transforms import Prepared
from fcos_cli.errors import DataError, SetupError, UsageError
from fcos_cli.geometry.resize import resized_size
from fcos_cli.recipe.schema import DataConfig
from fcos_cli.report import console

MAX_AUTO_WORKERS = 8
# A training goes on while no more than this share of the images drawn so far is broken, and always up to BROKEN_FILES.
BROKEN_SHARE, BROKEN_FILES = 0.1, 3
# Batches in memory beside the one that the network is busy with; images whose headers are read before the first batch.
EVAL_AHEAD, HEADERS_AT_ONCE = 2, 1024

_RUNNING: list[Any] = []


@dataclass
class Targets:
    """The boxes of a batch of N images, one ragged list.

    Attributes:
        boxes: float32 [T, 4] xyxy in input pixels, inside their image, none without area.
        labels: int32 [T].
        ignore: bool [T], crowd boxes: never positive.
        offsets: int64 [N + 1]; the boxes of image i are rows offsets[i]:offsets[i + 1].
    """

    boxes: Tensor
    labels: Tensor
    ignore: Tensor
    offsets: Tensor

    def to(self, device: torch.device | str) -> "Targets":
        """The same on another device."""
        moved = (t.to(device, non_blocking=True) for t in (self.boxes, self.labels, self.ignore, self.offsets))
        return Targets(*moved)


@dataclass
class Batch:
    """N images and what is known of them.

    Attributes:
        images: uint8 [H, W, 3] RGB each, resized; pinned where CUDA is there.
        targets: their boxes.
        image_ids: the data set's ids.
        indices: positions in the data set.
        ratios: float64 [N, 2] (x, y), network pixels per original pixel.
        original_sizes: int64 [N, 2] (width, height) in original pixels.
        failed: (name, reason) of images that could not be read; a batch may have no images but these.
    """

    images: list[Tensor]
    targets: Targets
    image_ids: list[int]
    indices: list[int]
    ratios: np.ndarray
    original_sizes: np.ndarray
    failed: list[tuple[str, str]] = field(default_factory=list)


class TrainLoader:
    """Endless batches for training, in the order fixed by `seed`; every image once an epoch.

    Args:
        data: an annotated data set.
        config: sizes, flips, grouping, workers.
        batch_size: images per iteration over all ranks; place p of a batch belongs to rank p % world.
        seed: of the order and of what happens to each image.
        start: the first iteration to yield.
        workers: processes; None takes config.workers.

    Raises:
        DataError: nothing to train on; while iterating: too many images that cannot be read.
        UsageError: fewer images in a batch than ranks.
    """

    def __init__(
        self,
        data: DetectionData,
        config: DataConfig,
        *,
        batch_size: int,
        seed: int,
        start: int = 0,
        rank: int = 0,
        world: int = 1,
        workers: int | None = None,
    ) -> None:
        if batch_size < world:
            raise UsageError(
                f"train.batch_size = {batch_size} leaves some of the {world} devices without an image",
                f"--set train.batch_size={world} or more",
            )
        images = trainable_images(data, skip_empty=config.skip_empty)
        sizes = data.sizes[images] if config.group_by_aspect else np.zeros((len(images), 2))
        # Seeds feed NumPy's SeedSequence, which takes no negative numbers.
        seed %= 2**63
        plan = BatchPlan(aspect_groups(sizes, batch_size), batch_size, seed)
        self.batches = TrainBatches(data, images, plan, config, seed, rank, world)
        self.start = start
        self.workers = choose_workers(config.workers if workers is None else workers)
        self.images_per_epoch = len(images)
        self._broken: dict[str, str] = {}

    def __iter__(self) -> Iterator[Batch]:
        data, share = self.batches.data, -(-self.batches.plan.batch_size // self.batches.world)
        packed_batches = _run(self.batches, itertools.count(self.start), self.workers)
        try:
            for done, (packed, pixels) in enumerate(packed_batches, start=1):
                self._report_broken(packed.failed, min(done * share, self.images_per_epoch))
                yield _unpack(data, packed, pixels)
        finally:
            packed_batches.close()

    def _report_broken(self, failed: Sequence[tuple[str, str]], drawn: int) -> None:
        for name, reason in failed:
            if name not in self._broken:
                console.warn(f"{reason}; another image takes its place in training")
            self._broken[name] = reason
        if failed and len(self._broken) > max(BROKEN_FILES, BROKEN_SHARE * drawn):
            names = ", ".join(list(self._broken)[:5])
            raise DataError(
                f"{self.batches.data.name}: {len(self._broken)} of about {drawn} images cannot be read: {names} ...",
                "list and mend them: fcos data check DATA --images",
            )


def trainable_images(data: DetectionData, *, skip_empty: bool) -> np.ndarray:
    """int64 positions of the images that training uses: all, or with `skip_empty` those with an object.

    Raises:
        DataError: there are none, or no object anywhere.
    """
    if not len(data):
        raise DataError(f"{data.name} has no images", "fcos data check DATA shows what was found where")
    if not data.annotated:
        raise DataError(
            f"{data.name} is a folder of images without annotations, and cannot train a detector",
            "name a COCO file, a Pascal VOC or a YOLO folder: --set data.dataset=PATH",
        )
    usable = ~data.crowd & (data.boxes[:, 2:] > data.boxes[:, :2]).all(axis=1)
    if not usable.any():
        raise DataError(f"{data.name} has {len(data)} images but no boxes to learn", "fcos data check DATA shows why")
    if not skip_empty:
        return np.arange(len(data))
    before = np.concatenate([[0], np.cumsum(usable)])
    return np.flatnonzero(before[data.offsets[1:]] > before[data.offsets[:-1]])


def eval_batches(
    data: DetectionData,
    short_side: int,
    long_side: int,
    batch_size: int,
    *,
    workers: int | None = None,
    indices: Sequence[int] | np.ndarray | None = None,
    rank: int = 0,
    world: int = 1,
    done: np.ndarray | None = None,
    draft: bool = False,
) -> Iterator[Batch]:
    """Every image once, similar shapes together, in no particular order: use `Batch.indices`.

    Images are read and resized by threads while the caller works on the batch before: a few batches are in memory,
    however many images there are. Images that cannot be read are named in the `failed` of their batch, which may then
    hold no image at all. The targets are the boxes at network size; of use only where `data` is annotated.

    Args:
        short_side: in pixels, as is long_side: the size rule of `geometry/resize.py`.
        workers: threads that read and resize; None and -1 choose by the machine.
        indices: the positions to take; all of them by default.
        rank, world: this process takes every world-th batch from this one on. The batches are the same for any number
            of processes: how an image is padded, and hence what is found in it, depends on what shares its batch.
        done: bool [len(data)], images that nothing is left to do for: a batch of nothing else is left out. The other
            batches stay as they are, so that what is found in an image does not depend on what was done before.
        draft: as `images.read_resized` has it.
    """
    chosen = np.arange(len(data)) if indices is None else np.asarray(indices, dtype=np.int64)
    groups = itertools.islice(_eval_groups(data, chosen, short_side, long_side, batch_size), rank, None, world)
    wanted = (group.tolist() for group in groups if done is None or not done[group].all())
    threads = choose_workers(-1 if workers is None else workers)
    # Enough under way that no thread waits, also where a batch holds one image.
    ahead = max(EVAL_AHEAD, -(-2 * threads // batch_size))
    loaded = groups_ahead(wanted, EvalImages(data, short_side, long_side, draft), threads=threads, ahead=ahead)
    return _eval_batches(data, loaded)


def _eval_groups(
    data: DetectionData, chosen: np.ndarray, short_side: int, long_side: int, batch_size: int
) -> Iterator[np.ndarray]:
    """Positions of like shape. Where the data set does not say how large its files are, their headers do: a stretch of
    the images at a time, so that the first batch does not wait for all of them."""
    if data.reader is not read_from_folder or (data.sizes[chosen] > 0).all():
        for group in shape_groups(data.sizes[chosen], short_side, long_side, batch_size):
            yield chosen[group]
        return
    for start in range(0, len(chosen), HEADERS_AT_ONCE):
        stretch = chosen[start : start + HEADERS_AT_ONCE]
        sizes = image_sizes([data.path(index) for index in stretch.tolist()])
        readable = (sizes > 0).all(axis=1)
        for part, part_sizes in ((stretch[readable], sizes[readable]), (stretch[~readable], sizes[~readable])):
            for group in shape_groups(part_sizes, short_side, long_side, batch_size):
                yield part[group]


def _eval_batches(
    data: DetectionData, loaded: Iterator[list[tuple[int, Prepared] | tuple[str, str]]]
) -> Iterator[Batch]:
    for results in loaded:
        samples = [(index, image) for index, image in results if isinstance(index, int) and isinstance(image, Prepared)]
        failed = [(name, why) for name, why in results if isinstance(name, str) and isinstance(why, str)]
        yield eval_batch(data, samples, failed)


def eval_batch(
    data: DetectionData, samples: Sequence[tuple[int, Prepared]], failed: Sequence[tuple[str, str]] = ()
) -> Batch:
    """A batch of images (index, image) that are at network size already."""
    known = columns(data, samples)
    targets = Targets(*(torch.from_numpy(known.pop(name)) for name in ("boxes", "labels", "ignore", "offsets")))
    # Pillow hands out memory that may not be written to, which torch has no notion of.
    images = [torch.from_numpy(np.require(image.image, requirements="W")) for _, image in samples]
    if torch.cuda.is_available():
        images = [image.pin_memory() for image in images]
    image_ids = [int(data.image_ids[index]) for index, _ in samples]
    return Batch(images, targets, image_ids, failed=list(failed), **known)


def shape_groups(sizes: np.ndarray, short_side: int, long_side: int, batch_size: int) -> list[np.ndarray]:
    """Positions of `sizes` [N, 2] in groups of at most `batch_size` of similar shape, the largest canvas first.

    The resized shape follows from the aspect ratio, so neighbours by ratio pad each other least; the largest first
    shows at once whether the memory suffices. In the order given where sizes are unknown (0).
    """
    order = np.arange(len(sizes))
    known = bool(len(sizes)) and bool((sizes > 0).all())
    if known:
        order = np.argsort(sizes[:, 0] / sizes[:, 1], kind="stable")
    groups = [order[i : i + batch_size] for i in range(0, len(order), batch_size)]
    if known:
        resized = np.array([resized_size(int(w), int(h), short_side, long_side) for w, h in sizes])
        groups.sort(key=lambda group: -int(np.prod(resized[group].max(axis=0))))
    return groups


def choose_workers(requested: int) -> int:
    """Processes to load with; -1 chooses: one less than this rank's cores, at most 8, none on a single core.

    The main process keeps a core: on two cores one worker already prepares the next batch while the network runs.
    """
    if requested >= 0:
        return requested
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    ranks = max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return max(0, min(MAX_AUTO_WORKERS, cores // ranks - 1))


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


def _run(
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
    with _interrupts_held():
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
        # Dropping the iterator is what ends the workers.
        _RUNNING.remove(iterator)
        del iterator


def _worker_died(error: Exception) -> SetupError:
    return SetupError(
        f"a loader process died: {error or type(error).__name__}",
        "memory or /dev/shm may be full: fewer workers (--set data.workers=0) or a larger --shm-size",
    )


def _end_workers() -> None:
    """Ends the workers of loaders that nobody closed: at exit they would be waited for, and they ignore SIGTERM."""
    for iterator in _RUNNING:
        if hasattr(iterator, "_shutdown_workers"):
            iterator._shutdown_workers()


# Registered after multiprocessing's own exit handler, so it runs before it.
atexit.register(_end_workers)


def _unchanged(loaded: Any) -> Any:
    return loaded


def _start_worker(worker: int) -> None:
    """Ctrl-C and a terminated process group are the main process's to handle; it ends the workers when it is done."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.excepthook = _but_lost_connections


def _but_lost_connections(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    """For the thread that hands batches over: that the main process has gone is nothing to print."""
    if not issubclass(kind, (EOFError, ConnectionError)):
        sys.__excepthook__(kind, error, trace)


@contextmanager
def _interrupts_held() -> Iterator[None]:
    """Holds Ctrl-C back while workers start: they inherit the mask, so none of them can print a traceback."""
    if not hasattr(signal, "pthread_sigmask"):
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _unpack(data: DetectionData, packed: PackedBatch, pixels: Tensor) -> Batch:
    counts = [height * width * 3 for height, width in packed.shapes]
    parts = pixels.split(counts) if counts else ()
    images = [part.view(height, width, 3) for part, (height, width) in zip(parts, packed.shapes, strict=True)]
    targets = Targets(*(torch.from_numpy(a) for a in (packed.boxes, packed.labels, packed.ignore, packed.offsets)))
    image_ids = [int(data.image_ids[index]) for index in packed.indices]
    return Batch(images, targets, image_ids, packed.indices, packed.ratios, packed.original_sizes, failed=packed.failed)
