"""A batch of images and their boxes as torch tensors."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from fcos_cli.data.loading.batches import PackedBatch, columns
from fcos_cli.data.records import DetectionData
from fcos_cli.data.sample import Sample
from fcos_cli.method.targets import Targets


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


def prepared_batch(
    data: DetectionData, samples: Sequence[tuple[int, Sample]], failed: Sequence[tuple[str, str]] = ()
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


def unpacked_batch(data: DetectionData, packed: PackedBatch, pixels: Tensor) -> Batch:
    """The batch that a loader process packed; `pixels` are its images in a row, uint8."""
    counts = [height * width * 3 for height, width in packed.shapes]
    parts = pixels.split(counts) if counts else ()
    images = [part.view(height, width, 3) for part, (height, width) in zip(parts, packed.shapes, strict=True)]
    targets = Targets(*(torch.from_numpy(a) for a in (packed.boxes, packed.labels, packed.ignore, packed.offsets)))
    image_ids = [int(data.image_ids[index]) for index in packed.indices]
    return Batch(images, targets, image_ids, packed.indices, packed.ratios, packed.original_sizes, failed=packed.failed)
