"""Gradient accumulation: one batch as several smaller ones."""

import itertools

import numpy as np

from fcos_cli.data.loading.tensors import Batch
from fcos_cli.method.targets import Targets


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """The images of a batch in `parts` runs of like length, each with its own targets; fewer where images are few."""
    count = len(batch.images)
    edges = np.linspace(0, count, min(parts, count) + 1).round().astype(int)
    return [_part(batch, slice(int(a), int(b))) for a, b in itertools.pairwise(edges)]


def _part(batch: Batch, images: slice) -> Batch:
    offsets = batch.targets.offsets[images.start : images.stop + 1]
    rows = slice(int(offsets[0]), int(offsets[-1]))
    targets = Targets(
        boxes=batch.targets.boxes[rows],
        labels=batch.targets.labels[rows],
        ignore=batch.targets.ignore[rows],
        offsets=offsets - offsets[0],
    )
    return Batch(
        images=batch.images[images],
        targets=targets,
        image_ids=batch.image_ids[images],
        indices=batch.indices[images],
        ratios=batch.ratios[images],
        original_sizes=batch.original_sizes[images],
    )
