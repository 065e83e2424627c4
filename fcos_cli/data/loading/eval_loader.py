"""Batches for evaluation and prediction, as torch tensors, read ahead of the network by threads."""

import itertools
from collections.abc import Iterator, Sequence

import numpy as np

from fcos_cli.data.images import image_sizes
from fcos_cli.data.loading.ahead import groups_ahead
from fcos_cli.data.loading.batches import EvalImages
from fcos_cli.data.loading.processes import choose_workers
from fcos_cli.data.loading.streamed import streamed_batches
from fcos_cli.data.loading.tensors import Batch, prepared_batch
from fcos_cli.data.records import DetectionData
from fcos_cli.data.sample import Sample
from fcos_cli.data.sources.source import StreamedSource
from fcos_cli.geometry.resize import resized_size

# Batches in memory beside the one that the network is busy with; images whose headers are read before the first batch.
EVAL_AHEAD, HEADERS_AT_ONCE = 2, 1024


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

    The images of a `StreamedSource` come in their order, all of them: `indices`, `rank` and `draft` do not apply.

    Args:
        short_side: in pixels, as is long_side: the size rule of `geometry/resize.py`.
        workers: threads that read and resize; None and -1 choose by the machine.
        indices: the positions to take; all of them by default.
        rank, world: this process takes every world-th batch from this one on. The batches are the same for any number
            of processes: how an image is padded, and hence its detections, depend on what shares its batch.
        done: bool [len(data)], images that nothing is left to do for: a batch of nothing else is left out. The other
            batches stay as they are, so that an image's detections do not depend on what was done before.
        draft: as `ImageSource.read_resized` has it.
    """
    threads = choose_workers(-1 if workers is None else workers)
    if isinstance(data.source, StreamedSource):
        return streamed_batches(data, data.source, short_side, long_side, batch_size, threads=threads, done=done)
    chosen = np.arange(len(data)) if indices is None else np.asarray(indices, dtype=np.int64)
    groups = itertools.islice(_eval_groups(data, chosen, short_side, long_side, batch_size), rank, None, world)
    wanted = (group.tolist() for group in groups if done is None or not done[group].all())
    # Enough under way that no thread waits, also where a batch holds one image.
    ahead = max(EVAL_AHEAD, -(-2 * threads // batch_size))
    loaded = groups_ahead(wanted, EvalImages(data, short_side, long_side, draft), threads=threads, ahead=ahead)
    return _eval_batches(data, loaded)


def _eval_groups(
    data: DetectionData, chosen: np.ndarray, short_side: int, long_side: int, batch_size: int
) -> Iterator[np.ndarray]:
    """Positions of like shape. Where the data set does not say how large its files are, their headers do: a stretch of
    the images at a time, so that the first batch does not wait for all of them."""
    if not data.source.on_disk or (data.sizes[chosen] > 0).all():
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


def _eval_batches(data: DetectionData, loaded: Iterator[list[tuple[int, Sample] | tuple[str, str]]]) -> Iterator[Batch]:
    for results in loaded:
        samples = [(index, image) for index, image in results if isinstance(index, int) and isinstance(image, Sample)]
        failed = [(name, why) for name, why in results if isinstance(name, str) and isinstance(why, str)]
        yield prepared_batch(data, samples, failed)


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
