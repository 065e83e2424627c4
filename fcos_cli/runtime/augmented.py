"""Test-time augmentation: several sizes, each also mirrored, and one non-maximum suppression over all they find.

The authors' protocol (the paper's 49.0 AP): the pass at the recipe's size, a pass at every further size, and each of
them mirrored left to right. The candidates of all passes, before any suppression, go into one class-aware NMS, and the
best `max_detections` stay. All levels of all passes take part: the paper has no rule that keeps small objects to the
large sizes.

A detection keeps the level and the location of the pass that it came from: the location is in pixels of that pass's
network input, mirrored where the pass was.
"""

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

from fcos_cli.data.images import resize, threads
from fcos_cli.data.loading.tensors import Batch
from fcos_cli.data.records import DetectionData
from fcos_cli.geometry.resize import padded_size, resized_size
from fcos_cli.model import cutting
from fcos_cli.model.postprocess import Detections, postprocess
from fcos_cli.recipe.schema import TestConfig
from fcos_cli.runtime.predictor import Predictor, above
from fcos_kernels.nms import nms


class AugmentedPredictor(Predictor):
    """A `Predictor` whose every image is seen in all passes of the recipe's `test.tta`.

    Memory stays that of a plain prediction, but for single images larger than its batches: at sizes above the recipe's
    a batch is cut into parts, whose padded pixels are no more than those of a full batch at the recipe's size. The
    images of one batch are in memory in their original size.
    """

    augmented = True

    def detect_batch(self, data: DetectionData, batch: Batch) -> Detections:
        """Detections in a batch of `data`'s images, in pixels of `batch.images`, merged from all passes."""
        canvas = _canvas([image.shape[1::-1] for image in batch.images])
        pixels = canvas * max(self.batch_size, len(batch.images))
        with ThreadPoolExecutor(threads()) as pool:
            # The originals are read again while the first passes run.
            reading = [pool.submit(data.read, index) for index in batch.indices] if self.test.tta.scales else []
            detections = list(self._passes(batch.images, range(len(batch.images)), None))
            originals = [task.result() for task in reading]
        for short_side, long_side in further_sizes(self.test):
            detections += self._further(originals, batch, short_side, long_side, pixels)
        return self._merge(detections, torch.tensor([image.shape[:2] for image in batch.images]))

    def _further(
        self, originals: Sequence[np.ndarray], batch: Batch, short_side: int, long_side: int, pixels: int
    ) -> Iterator[Detections]:
        """The passes at one more size, in parts of at most so many padded pixels, in pixels of `batch.images`."""
        sizes = [resized_size(image.shape[1], image.shape[0], short_side, long_side) for image in originals]
        count = max(1, pixels // _canvas(sizes))
        for begin in range(0, len(originals), count):
            part = range(begin, min(begin + count, len(originals)))
            images = [torch.from_numpy(resize(originals[i], *sizes[i]).copy()) for i in part]
            factors = [[w / sizes[i][0], h / sizes[i][1]] for i in part for h, w in [batch.images[i].shape[:2]]]
            yield from self._passes(images, part, torch.tensor(factors, dtype=torch.float64))

    @torch.inference_mode()
    def _passes(self, images: list[Tensor], positions: Sequence[int], factors: Tensor | None) -> Iterator[Detections]:
        """Candidates, on the CPU, of a pass over images uint8 [H, W, 3], and of the mirrored one.

        Args:
            positions: of the images in their batch.
            factors: float64 [N, 2] (x, y), pixels of the batch's own images per pixel of these; None: they are those.
        """
        widths = torch.tensor([image.shape[1] for image in images], dtype=torch.float32)
        places = torch.as_tensor(list(positions))
        for mirrored in (False, True) if self.test.tta.flip else (False,):
            seen = [image.flip(1) for image in images] if mirrored else images
            ready = self.model.preprocess(seen)
            outputs = self.network(ready.pixels)
            detections = postprocess(outputs, ready.sizes, self.model, self.test, suppress=False)
            detections = Detections(*(column.cpu() for column in detections))
            boxes = detections.boxes
            if mirrored:
                width = widths[detections.image] - cutting.extra(self.test)
                boxes = torch.stack([width - boxes[:, 2], boxes[:, 1], width - boxes[:, 0], boxes[:, 3]], dim=1)
            if factors is not None:
                boxes = (boxes.double() * factors.tile(1, 2)[detections.image]).float()
            yield detections._replace(image=places[detections.image], boxes=boxes)

    def _merge(self, passes: Sequence[Detections], sizes: Tensor) -> Detections:
        every = Detections(*(torch.cat(column) for column in zip(*passes, strict=True)))
        limit = self.test.max_detections
        seen = cutting.for_suppression(every.boxes, self.test)
        kept = nms(seen, every.scores, every.labels, self.test.nms_iou, images=every.image, max_per_image=limit)
        merged = Detections(*(column[kept] for column in every))
        if cutting.is_late(self.test):
            boxes = cutting.cut(merged.boxes, cutting.limits(sizes, self.test)[merged.image])
            has_area = ~cutting.without_area(boxes, self.test)
            merged = Detections(*(column[has_area] for column in merged._replace(boxes=boxes)))
        return merged if self.threshold is None else above(merged, self.threshold)


def further_sizes(test: TestConfig) -> list[tuple[int, int]]:
    """Short side and largest long side, in pixels, of the passes beside the one at the recipe's size."""
    long_side = round(test.tta.long_side * test.short_side)
    return [(max(1, round(scale * test.short_side)), long_side) for scale in test.tta.scales]


def passes(test: TestConfig) -> str:
    """The passes in words, for a log."""
    sides = sorted({test.short_side, *(short for short, _ in further_sizes(test))})
    count = (1 + len(test.tta.scales)) * (2 if test.tta.flip else 1)
    return f"{count} passes an image: short side {', '.join(map(str, sides))}" + (", mirrored" * test.tta.flip)


def _canvas(sizes: Sequence[Sequence[int]]) -> int:
    """Pixels of one image of a batch with these (width, height), padded to the common size."""
    width, height = padded_size(max(size[0] for size in sizes), max(size[1] for size in sizes))
    return width * height
