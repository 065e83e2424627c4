"""A detector over a data set: batches in, one result per image out, in pixels of the original images."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from torch import Tensor

from fcos_cli.data.loading.eval_loader import eval_batches
from fcos_cli.data.loading.tensors import Batch
from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError
from fcos_cli.evaluation.detections import ImageResult
from fcos_cli.model.fcos import FCOS
from fcos_cli.model.postprocess import Detections, postprocess
from fcos_cli.recipe.schema import Precision as PrecisionName
from fcos_cli.recipe.schema import TestConfig
from fcos_cli.runtime.precision import choose_precision
from fcos_cli.runtime.prepared import as_it_stands, prepare


class UnreadableImage(NamedTuple):
    """An image that could not be read, and why."""

    file_name: str
    reason: str


class Predictor:
    """Runs a detector.

    Args:
        model: the detector.
        test: sizes, thresholds and limits: the recipe's `test`.
        device: where to run; the model is moved there, and a copy of its network is prepared for speed, which does not
            see later changes of its weights. None runs the model as it stands, which is what a training wants for a
            model that it goes on with.
        precision: "auto" chooses by the device; `Predictor.precision` tells what and why.
        batch_size: images a pass; None is the recipe's.
        threshold: smallest score to report; None reports every detection above the recipe's candidate threshold.
            One below the recipe's threshold lowers that, too. An array [C] is one for each class, and lowers nothing.

    Attributes:
        augmented: whether an image is seen in several passes, for which it may be read again.
    """

    augmented: ClassVar[bool] = False

    def __init__(
        self,
        model: FCOS,
        test: TestConfig,
        *,
        device: torch.device | None = None,
        precision: PrecisionName = "auto",
        batch_size: int | None = None,
        threshold: float | np.ndarray | None = None,
    ) -> None:
        self.precision = choose_precision(precision, device or model.device, inference=device is not None)
        self.model = model if device is None else model.to(device)
        self.network = as_it_stands(model, self.precision) if device is None else prepare(self.model, self.precision)
        self.batch_size = batch_size or test.batch_size
        self.threshold = threshold
        lowered = min(test.score_threshold, threshold) if isinstance(threshold, float | int) else test.score_threshold
        self.test = test.model_copy(update={"score_threshold": lowered})

    def run(
        self,
        data: DetectionData,
        failed: list[UnreadableImage] | None = None,
        *,
        rank: int = 0,
        world: int = 1,
        done: np.ndarray | None = None,
        draft: bool = False,
    ) -> Iterator[ImageResult]:
        """Results of every readable image, as they come: images of like shape share a batch, whatever the data's order.

        Args:
            data: images; annotations are not looked at.
            failed: gets the images that cannot be read.
            rank, world: take every world-th batch from this one on; the batches do not depend on it.
            done, draft: as `eval_batches` has them.

        Raises:
            DataError: an image cannot be read and there is no `failed` to note it in.
        """
        with _evaluating(self.model):
            short, long = self.test.short_side, self.test.long_side
            size = self.batch_size
            batches = eval_batches(data, short, long, size, rank=rank, world=world, done=done, draft=draft)
            for batch in batches:
                failures = [UnreadableImage(name, reason) for name, reason in batch.failed]
                if failures and failed is None:
                    raise DataError(f"{failures[0].file_name}: {failures[0].reason}")
                if failed is not None:
                    failed.extend(failures)
                if batch.images:
                    yield from to_original(self.detect_batch(data, batch), batch)

    def detect_batch(self, data: DetectionData, batch: Batch) -> Detections:
        """Detections in a batch of `data`'s images, in pixels of `batch.images`."""
        return self.detect(batch.images)

    @torch.inference_mode()
    def detect(self, images: list[Tensor]) -> Detections:
        """Detections, on the CPU, in a batch of images uint8 [H, W, 3] RGB that have their network size already."""
        batch = self.model.preprocess(images)
        outputs = self.network(batch.pixels)
        detections = postprocess(outputs, batch.sizes, self.model, self.test)
        if self.threshold is not None:
            detections = above(detections, self.threshold)
        return detections


def above(detections: Detections, threshold: float | np.ndarray) -> Detections:
    """The detections that reach the threshold: one for all, or [C] one for each class."""
    if isinstance(threshold, np.ndarray):
        thresholds = torch.from_numpy(threshold).to(detections.scores.device)
        reach = detections.scores.double() >= thresholds[detections.labels]
    else:
        reach = detections.scores >= threshold
    return Detections(*(column[reach] for column in detections))


def to_original(detections: Detections, batch: Batch) -> Iterator[ImageResult]:
    """One result per image, boxes mapped from the network input to the original image and clipped to it."""
    image, boxes, scores, labels, level, location = (column.numpy() for column in detections)
    boxes = boxes.astype(np.float64)
    valid = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    for position, (index, image_id) in enumerate(zip(batch.indices, batch.image_ids, strict=True)):
        rows = image == position
        kept = rows & valid
        width, height = (int(side) for side in batch.original_sizes[position])
        ratios = np.tile(np.asarray(batch.ratios[position], dtype=np.float64), 2)
        yield ImageResult(
            index=index,
            image_id=int(image_id),
            size=(width, height),
            boxes=np.clip(boxes[kept] / ratios, 0, [width, height, width, height]),
            scores=scores[kept].astype(np.float64),
            labels=labels[kept].astype(np.int64),
            level=level[kept].astype(np.int64),
            location=location[kept].astype(np.int64),
            invalid=int((rows & ~valid).sum()),
        )


@contextmanager
def _evaluating(model: FCOS) -> Iterator[None]:
    training = model.training
    model.eval()
    try:
        yield
    finally:
        model.train(training)
