"""Batches for training, as torch tensors, read ahead of the network by processes.

Batch k depends on (data, config, batch size, seed, k) alone: not on the iteration it starts from, the number of workers
or the number of ranks. A single image that cannot be read does not end a training: it is replaced and named once; many
of them do.
"""

import itertools
import logging
from collections.abc import Iterator, Sequence

import numpy as np

from fcos_cli.data.augment.known import augmentations_of
from fcos_cli.data.loading.batches import TrainBatches
from fcos_cli.data.loading.processes import choose_workers, run_ahead
from fcos_cli.data.loading.sampling import BatchPlan, aspect_groups
from fcos_cli.data.loading.tensors import Batch, unpacked_batch
from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError, UsageError
from fcos_cli.recipe.schema import DataConfig

logger = logging.getLogger(__name__)

# A training goes on while no more than this share of the images drawn so far is broken, and always up to BROKEN_FILES.
BROKEN_SHARE, BROKEN_FILES = 0.1, 3


class TrainLoader:
    """Endless batches for training, in the order fixed by `seed`; every image once an epoch.

    Args:
        data: an annotated data set.
        config: augmentations, grouping, workers.
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
        self.batches = TrainBatches(data, images, plan, augmentations_of(config), seed, rank, world)
        self.start = start
        self.workers = choose_workers(config.workers if workers is None else workers)
        self.images_per_epoch = len(images)
        self._broken: dict[str, str] = {}

    def __iter__(self) -> Iterator[Batch]:
        data, share = self.batches.data, -(-self.batches.plan.batch_size // self.batches.world)
        packed_batches = run_ahead(self.batches, itertools.count(self.start), self.workers)
        try:
            for done, (packed, pixels) in enumerate(packed_batches, start=1):
                self._report_broken(packed.failed, min(done * share, self.images_per_epoch))
                yield unpacked_batch(data, packed, pixels)
        finally:
            packed_batches.close()

    def _report_broken(self, failed: Sequence[tuple[str, str]], drawn: int) -> None:
        for name, reason in failed:
            if name not in self._broken:
                logger.warning("%s; another image takes its place in training", reason)
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
