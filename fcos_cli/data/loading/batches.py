"""Loading a whole batch: read, prepare, pack. Runs in a worker process or thread or in the main one. NumPy only.

Only what is small or flat crosses between processes: all images of a batch travel in one buffer, so that a batch costs
one file descriptor, and a user's mistake travels as data (`Failure`), not as a traceback.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fcos_cli.data.augment.augmentation import Augmentation
from fcos_cli.data.augment.known import augmented
from fcos_cli.data.loading.sampling import BatchPlan
from fcos_cli.data.records import DetectionData
from fcos_cli.data.sample import Sample, original, placed
from fcos_cli.errors import DataError
from fcos_cli.geometry.resize import resized_size

# An image that cannot be read is replaced by the one at its place in the next batch of its group, this often.
REPLACEMENTS = 20


@dataclass
class PackedBatch:
    """A batch on its way between processes.

    Attributes:
        pixels: uint8 [sum of H * W * 3], the images one after another.
        shapes: (height, width) of each image.
        boxes: float32 [T, 4] xyxy in pixels of the prepared images, without degenerate ones.
        labels: int32 [T].
        ignore: bool [T], crowd boxes.
        offsets: int64 [N + 1], the boxes of image i are rows offsets[i]:offsets[i + 1].
        indices: positions of the images in the data set.
        ratios: float64 [N, 2] (x, y), prepared pixels per original pixel.
        original_sizes: int64 [N, 2] (width, height).
        failed: (name, reason) of the images that could not be read.
    """

    pixels: np.ndarray
    shapes: list[tuple[int, int]]
    boxes: np.ndarray
    labels: np.ndarray
    ignore: np.ndarray
    offsets: np.ndarray
    indices: list[int]
    ratios: np.ndarray
    original_sizes: np.ndarray
    failed: list[tuple[str, str]]


@dataclass
class Failure:
    """A user's mistake that a worker met, to be raised as DataError by the main process."""

    message: str
    hint: str


@dataclass(frozen=True)
class TrainBatches:
    """Rank `rank`'s share of batch k: places rank, rank + world, ... of the global batch.

    `images` are the positions in `data` that the plan's numbers stand for. What happens to an image depends on
    (seed, iteration, place in the global batch), hence neither on the workers nor on the ranks.
    """

    data: DetectionData
    images: np.ndarray
    plan: BatchPlan
    augmentations: Sequence[Augmentation]
    seed: int
    rank: int = 0
    world: int = 1

    def __getitem__(self, iteration: int) -> PackedBatch | Failure:
        group, number = self.plan.group_of(iteration)
        size = self.plan.batch_size
        samples: list[tuple[int, Sample]] = []
        failed: list[tuple[str, str]] = []
        for place in range(self.rank, size, self.world):
            for attempt in range(REPLACEMENTS + 1):
                position = self.plan.stream(group, (number + attempt) * size + place, 1)[0]
                index = int(self.images[position])
                try:
                    samples.append((index, self._sample(index, iteration, place)))
                    break
                except DataError as error:
                    failed.append((self.data.file_names[index], error.message))
            else:
                return Failure(
                    f"{self.data.name}: {REPLACEMENTS + 1} images in a row cannot be read, the last: {failed[-1][1]}",
                    f"are the images below {self.data.root}? Check them all: fcos data check DATA --images",
                )
        return pack(self.data, samples, failed)

    def _sample(self, index: int, iteration: int, place: int) -> Sample:
        sample = original(self.data.read(index), self.data.boxes[self.data.rows(index)])
        return augmented(sample, self.augmentations, seed=self.seed, iteration=iteration, place=place)


@dataclass(frozen=True)
class EvalImages:
    """Images of a data set at the test size, one at a time; safe to call from several threads.

    `draft` as `ImageSource.read_resized` has it.
    """

    data: DetectionData
    short_side: int
    long_side: int
    draft: bool = False

    def __call__(self, index: int) -> tuple[int, Sample] | tuple[str, str]:
        """(index, image), or (name, reason) where it cannot be read."""
        boxes = self.data.boxes[self.data.rows(index)]
        try:
            pixels, size = self.data.source.read_resized(self.data, index, self._network_size, draft=self.draft)
            return index, placed(pixels, boxes, size)
        except DataError as error:
            return self.data.file_names[index], error.message

    def _network_size(self, width: int, height: int) -> tuple[int, int]:
        return resized_size(width, height, self.short_side, self.long_side)


def pack(data: DetectionData, samples: Sequence[tuple[int, Sample]], failed: Sequence[tuple[str, str]]) -> PackedBatch:
    """Puts prepared images (index, image) and their boxes together, the pixels in one buffer."""
    images = [sample.image for _, sample in samples]
    return PackedBatch(
        pixels=np.concatenate([image.reshape(-1) for image in images]) if images else np.zeros(0, dtype=np.uint8),
        shapes=[(image.shape[0], image.shape[1]) for image in images],
        failed=list(failed),
        **columns(data, samples),
    )


def columns(data: DetectionData, samples: Sequence[tuple[int, Sample]]) -> dict[str, Any]:
    """What a batch knows of its images (index, image) beside their pixels; boxes without area are dropped."""
    boxes, rows, counts = [np.zeros((0, 4))], [np.zeros(0, dtype=np.int64)], []
    for index, sample in samples:
        solid = (sample.boxes[:, 2:] > sample.boxes[:, :2]).all(axis=1) & np.isfinite(sample.boxes).all(axis=1)
        boxes.append(sample.boxes[solid])
        rows.append(data.offsets[index] + np.flatnonzero(solid))
        counts.append(int(solid.sum()))
    chosen = np.concatenate(rows)
    return {
        "boxes": np.concatenate(boxes).astype(np.float32),
        "labels": data.labels[chosen].astype(np.int32),
        "ignore": data.crowd[chosen].astype(bool),
        "offsets": np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        "indices": [index for index, _ in samples],
        "ratios": np.array([sample.ratios for _, sample in samples], dtype=np.float64).reshape(-1, 2),
        "original_sizes": np.array([sample.original_size for _, sample in samples], dtype=np.int64).reshape(-1, 2),
    }
