"""The Python API: `load` gives a `Model`, whose `predict` takes an image in any usual form and gives arrays.

The images go through the same reading, resizing, batching and suppression as `fcos predict`, and give the same boxes.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args, overload

import numpy as np
import torch
from PIL import Image

from fcos_cli.data.images import read_image
from fcos_cli.data.records import DetectionData
from fcos_cli.data.sources.memory import ImageLike, as_data
from fcos_cli.errors import DataError, FcosError, UsageError
from fcos_cli.evaluation.detections import ImageResult
from fcos_cli.recipe.schema import Precision
from fcos_cli.runs import newest_run
from fcos_cli.runtime.augmented import AugmentedPredictor
from fcos_cli.runtime.precision import choose_device, choose_precision
from fcos_cli.runtime.predictor import Predictor, UnreadableImage
from fcos_cli.weights.opening import open_detector
from fcos_cli.weights.saved import Detector
from fcos_cli.weights.thresholds import load_thresholds

SHOWN = 5


@contextmanager
def _with_hints() -> Iterator[None]:
    """What to do about a mistake, below its message: tracebacks show an exception's notes."""
    try:
        yield
    except FcosError as error:
        if error.hint:
            error.add_note(error.hint)
        raise


@dataclass(frozen=True, repr=False)
class Prediction:
    """D detections in one image, by descending score. `len()` is D.

    Attributes:
        boxes: float64 [D, 4] x0, y0, x1, y1 in pixels of the original image, upright.
        scores: float64 [D] in 0..1.
        labels: int64 [D], positions in `Model.names`.
        names: D class names.
        size: width and height of the original image in pixels.
        source: the file, or what an image without one was called.
    """

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    names: list[str]
    size: tuple[int, int]
    source: str
    _image: Path | np.ndarray
    _classes: list[str]

    def __len__(self) -> int:
        return len(self.scores)

    def __repr__(self) -> str:
        width, height = self.size
        shown = [f"{name} {score:.2f}" for name, score in zip(self.names[:SHOWN], self.scores, strict=False)]
        if len(self) > SHOWN:
            shown.append(f"{len(self) - SHOWN} more")
        return f"<Prediction of {self.source}, {width}x{height} pixels: {', '.join(shown) or 'nothing found'}>"

    def draw(self) -> Image.Image:
        """A copy of the image as an RGB Pillow image, with the boxes drawn in; a file is read again.

        Raises:
            DataError: the file is no longer there.
        """
        from fcos_cli.report.draw import draw_boxes

        pixels = read_image(self._image) if isinstance(self._image, Path) else self._image
        return draw_boxes(pixels, self.boxes, self.labels, self._classes, self.scores)


class Model:
    """A trained detector. Made by `load`.

    Attributes:
        detector: the network with its recipe and where it came from.
        names: the class names, in label order.
    """

    def __init__(self, detector: Detector, device: str = "auto", precision: Precision = "auto") -> None:
        self.detector = detector
        self.names = list(detector.categories.names)
        self._device, self._precision = device, precision
        self._prepared: tuple[tuple[Any, ...], Predictor] | None = None
        choose_precision(_known(precision), choose_device(device))

    def __getstate__(self) -> dict[str, Any]:
        """For another process: without the prepared copy of the network, which it makes anew."""
        return self.__dict__ | {"_prepared": None}

    def __repr__(self) -> str:
        return f"<Model {self.detector.path}: {len(self.names)} classes>"

    @overload
    def predict(
        self,
        images: ImageLike,
        *,
        threshold: float | Literal["auto"] | None = None,
        tta: bool = False,
        batch_size: int | None = None,
        device: str | None = None,
        precision: Precision | None = None,
    ) -> Prediction: ...

    @overload
    def predict(
        self,
        images: list[Any] | tuple[Any, ...],
        *,
        threshold: float | Literal["auto"] | None = None,
        tta: bool = False,
        batch_size: int | None = None,
        device: str | None = None,
        precision: Precision | None = None,
    ) -> list[Prediction]: ...

    @_with_hints()
    def predict(
        self,
        images: ImageLike | list[Any] | tuple[Any, ...],
        *,
        threshold: float | Literal["auto"] | None = None,
        tta: bool = False,
        batch_size: int | None = None,
        device: str | None = None,
        precision: Precision | None = None,
    ) -> Prediction | list[Prediction]:
        """Finds objects in an image, or in each image of a list.

        Args:
            images: a path, a Pillow image, an array uint8 [H, W, 3] RGB or [H, W] gray, a tensor uint8 [3, H, W] RGB
                or [1, H, W] gray; or a list or tuple of them. Files and Pillow images are turned upright by their EXIF
                orientation. Arrays from OpenCV are BGR: give `array[..., ::-1]`.
            threshold: smallest score to report; "auto" is each class's best, as `fcos eval` stored it; None reports
                all above the recipe's test.score_threshold, most of which are for measuring, not for looking at.
            tta: test-time augmentation, by the recipe's test.tta.
            batch_size: images a pass; None is the recipe's.
            device, precision: other than those of `load`.

        Returns:
            A `Prediction`, or for a list a list in the same order.

        Raises:
            DataError: an image is missing or broken; names it.
            UsageError: something that is no image, or of another type or shape; a threshold that is no score; a batch
                size below 1; an unknown precision.
            WeightsError: "auto", and no thresholds are stored with the weights.
            SetupError: the machine has no such device or precision.
        """
        if batch_size is not None and (not isinstance(batch_size, int | np.integer) or batch_size < 1):
            raise UsageError(f"batch_size is a whole number from 1, or None for the recipe's, not {batch_size!r}")
        several = isinstance(images, list | tuple)
        given = list(images) if isinstance(images, list | tuple) else [images]
        limits = self._limits(threshold, tta)
        data, held = as_data(given, several, stretch=self.detector.recipe.data.stretch_16_bit)
        chosen = choose_device(self._device if device is None else device)
        predictor = self._predictor(
            chosen, _known(precision or self._precision), tta, batch_size, limits if isinstance(limits, float) else None
        )
        predictions: list[Prediction | None] = [None] * len(given)
        failed: list[UnreadableImage] = []
        for result in predictor.run(data, failed):
            if failed:
                break
            index = result.index
            predictions[index] = self._prediction(result, data.file_names[index], held[index], limits)
        if failed:
            raise DataError(_failure(failed[0], data, several))
        complete = [one for one in predictions if one is not None]
        return complete if several else complete[0]

    def _limits(self, threshold: float | Literal["auto"] | None, tta: bool) -> float | np.ndarray | None:
        if threshold == "auto":
            return load_thresholds(self.detector.path, self.detector.categories, tta=tta).values
        if threshold is None:
            return None
        number = isinstance(threshold, float | int | np.number) and not isinstance(threshold, bool)
        if not number or not 0 <= float(threshold) <= 1:
            raise UsageError(f'threshold is a score from 0 to 1, "auto" or None, not {threshold!r}')
        return float(threshold)

    def _predictor(
        self, device: torch.device, precision: Precision, tta: bool, batch_size: int | None, threshold: float | None
    ) -> Predictor:
        """The predictor of these choices; the last one is kept, as preparing the network costs more than a call."""
        test = self.detector.recipe.test
        # Above the recipe's threshold a higher one only leaves detections out, which is done after the prediction.
        lowered = threshold if threshold is not None and threshold < test.score_threshold else None
        key = (device, precision, tta, batch_size, lowered)
        # Looked at once: another thread may ask for other choices at any time.
        prepared = self._prepared
        if prepared is None or prepared[0] != key:
            # The old copy of the network goes before the new one comes.
            self._prepared = prepared = None
            predictor = (AugmentedPredictor if tta else Predictor)(
                self.detector.model, test, device=device, precision=precision, batch_size=batch_size, threshold=lowered
            )
            self._prepared = prepared = (key, predictor)
        return prepared[1]

    def _prediction(
        self, result: ImageResult, source: str, image: Path | np.ndarray, limits: float | np.ndarray | None
    ) -> Prediction:
        kept = np.ones(len(result.scores), dtype=bool)
        if isinstance(limits, np.ndarray):
            kept = result.scores >= limits[result.labels]
        elif limits is not None:
            # Scores are float32 inside: the bar is rounded as `fcos predict` rounds it.
            kept = result.scores >= float(np.float32(limits))
        labels = result.labels[kept]
        names = [self.names[label] for label in labels.tolist()]
        return Prediction(
            result.boxes[kept], result.scores[kept], labels, names, result.size, source, image, self.names
        )


@_with_hints()
def load(weights: str | Path | None = None, *, device: str = "auto", precision: Precision = "auto") -> Model:
    """`fcos_cli.load`, which says what it takes and raises."""
    return Model(open_detector(newest_run() if weights is None else weights), device, precision)


def _known(precision: Precision) -> Precision:
    allowed = get_args(Precision)
    if precision not in allowed:
        raise UsageError(f"there is no precision {precision!r}", f"choose one of {', '.join(allowed)}")
    return precision


def _failure(failure: UnreadableImage, data: DetectionData, several: bool) -> str:
    if not several:
        return failure.reason
    return f"image {list(data.file_names).index(failure.file_name)} of the list: {failure.reason}"
