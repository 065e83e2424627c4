"""Batches of images that come one after another, such as a video's frames: in order, a bounded number in memory."""

from collections.abc import Iterator

import numpy as np

from fcos_cli.data.loading.ahead import drawn_ahead, groups_ahead
from fcos_cli.data.loading.tensors import Batch, prepared_batch
from fcos_cli.data.records import DetectionData
from fcos_cli.data.sample import Sample, prepare
from fcos_cli.data.sources.source import StreamedSource

_NO_BOXES = np.zeros((0, 4))


def streamed_batches(
    data: DetectionData,
    source: StreamedSource,
    short_side: int,
    long_side: int,
    batch_size: int,
    *,
    threads: int,
    done: np.ndarray | None = None,
) -> Iterator[Batch]:
    """Batches at network size; what breaks the stream is named in the `failed` of a last batch without images.

    Args:
        data: the images, of this `source`.
        short_side: in pixels, as is long_side: the size rule of `geometry/resize.py`.
        threads: that resize.
        done: bool [len(data)], images to leave out.
    """
    failed: list[tuple[str, str]] = []

    def resized(item: tuple[int, np.ndarray]) -> tuple[int, Sample]:
        index, pixels = item
        source.batched(index, pixels)
        return index, prepare(pixels, _NO_BOXES, short_side, long_side)

    frames = drawn_ahead(source.stream(data, done, failed), limit=batch_size)
    for samples in groups_ahead(_grouped(frames, batch_size), resized, threads=threads, ahead=1):
        yield prepared_batch(data, samples)
    if failed:
        yield prepared_batch(data, [], failed)


def _grouped(frames: Iterator[tuple[int, np.ndarray]], size: int) -> Iterator[list[tuple[int, np.ndarray]]]:
    group: list[tuple[int, np.ndarray]] = []
    try:
        for frame in frames:
            group.append(frame)
            if len(group) == size:
                yield group
                group = []
        if group:
            yield group
    finally:
        # Ends the decoding thread where the user stops early.
        frames.close()  # type: ignore[attr-defined]
