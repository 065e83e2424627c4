"""A whole prediction: images in, a result and pictures on disk out, in constant memory."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.data.sources.source import StreamedSource
from fcos_cli.errors import SetupError
from fcos_cli.evaluation.categories import match_categories
from fcos_cli.evaluation.detections import ImageResult
from fcos_cli.predict.formats import FormatName
from fcos_cli.predict.pictures import PICTURE_THRESHOLD, Pictures
from fcos_cli.predict.pipeline import LIMIT, Finisher
from fcos_cli.predict.writer import ResultWriter, companion_path, lists_images, names_of, result_writer
from fcos_cli.runtime.predictor import Predictor, UnreadableImage

# Streamed images that wait for their picture are in memory in full size.
FRAMES_IN_FLIGHT = 8


@dataclass
class Summary:
    """What a prediction did.

    Attributes:
        images: images in the result.
        resumed: how many of them were done before, by the prediction that this one went on with.
        detections: detections in the result.
        seconds: from the first image to the last.
        failed: images that could not be read.
        invalid: detections left out because they were not finite.
        interrupted: Ctrl-C ended it early; what was done is on disk.
        partial: what `--resume` goes on with, where it was interrupted.
        companion: the file that lists the images, where the data set has none of its own.
        per_class: detections per class name, most first.
        absent: classes of the model that the data set lacks; their detections are not written.
    """

    images: int = 0
    resumed: int = 0
    detections: int = 0
    seconds: float = 0.0
    failed: list[UnreadableImage] = field(default_factory=list)
    invalid: int = 0
    interrupted: bool = False
    partial: Path | None = None
    companion: Path | None = None
    per_class: list[tuple[str, int]] = field(default_factory=list)
    absent: tuple[str, ...] = ()


def predict_to_file(
    predictor: Predictor,
    categories: Categories,
    data: DetectionData,
    out: Path,
    *,
    format: FormatName = "coco",
    locations: bool = False,
    pictures: Path | None = None,
    crops: Path | None = None,
    picture_threshold: float = PICTURE_THRESHOLD,
    resume: bool = False,
    settings: Mapping[str, object] | None = None,
    draft: bool = False,
    step: Callable[[int], None] = lambda count: None,
) -> Summary:
    """Predicts on every image of `data` and writes what it finds.

    Reading, the network, and drawing and writing overlap; a bounded number of images is on its way.

    Args:
        predictor: the detector.
        categories: its classes, in label order.
        data: images; where they belong to a data set with classes, its own category ids are written.
        out: the file, or the folder for formats of a file an image.
        format: of the result, as `formats.FORMATS` has them.
        locations: write the level and the location that each detection came from, as `result_writer` does.
        pictures: folder for the images with their boxes drawn in.
        crops: folder for the boxes cut out, a folder a class in it.
        picture_threshold: smallest score that is drawn and cut out.
        resume: go on with what an interrupted prediction has left; the result is what it would have been without the
            interruption.
        settings: what the detections depend on beside the predictor's own settings, such as the weights' digest.
        draft: as `ImageSource.read_resized` has it.
        step: called with the number of images finished, readable or not; first with those that were done before.

    Raises:
        DataError: the data set has classes that the model does not know.
        UsageError: `resume` with other settings; a picture would take the place of an image.
        SetupError: a file cannot be written; what is done is kept for `resume`.
    """
    summary = Summary()
    category_ids, summary.absent = match_categories(categories, data)
    described = {**_settings(predictor, data, draft), **(settings or {})}
    # The images that are done would have no pictures.
    described |= {"draw": _place(pictures), "save-crops": _place(crops)}
    prepare = None
    if pictures or crops:
        prepare = Pictures(data, categories.names, picture_threshold, drawn=pictures, crops=crops)
        prepare.check()
    started = time.perf_counter()
    opened: list[ResultWriter] = []
    try:
        with result_writer(
            out,
            category_ids,
            data=data,
            categories=categories,
            format=format,
            locations=locations,
            settings=described,
            resume=resume,
        ) as writer:
            opened.append(writer)
            summary.resumed = writer.images
            step(int(writer.done.sum()))
            _predict(predictor, data, writer, prepare, summary, draft, step)
    except KeyboardInterrupt:
        summary.interrupted = True
    except OSError as error:
        kept = f"what is done is kept in {opened[0].journal.path}: after that, add --resume" if opened else ""
        reason = (error.strerror or str(error)).lower()
        raise SetupError(
            f"cannot write {error.filename or out}: {reason}",
            f"free some space or mend its permissions{'; ' if kept else ''}{kept}",
        ) from error
    summary.seconds = time.perf_counter() - started
    if opened:
        _sum_up(summary, opened[0])
    return summary


def _predict(
    predictor: Predictor,
    data: DetectionData,
    writer: ResultWriter,
    prepare: Callable[[ImageResult], None] | None,
    summary: Summary,
    draft: bool,
    step: Callable[[int], None],
) -> None:
    told = 0
    streamed = data.source if isinstance(data.source, StreamedSource) else None
    # Pictures, and passes at other sizes, read an image again.
    if streamed and (prepare is not None or predictor.augmented):
        streamed.keep_originals()

    def write(result: ImageResult) -> None:
        nonlocal told
        writer.add(result)
        if streamed:
            streamed.release(result.index)
        failures = len(summary.failed)
        step(1 + failures - told)
        told = failures

    done = writer.done.copy()
    with Finisher(prepare, write, limit=FRAMES_IN_FLIGHT if streamed else LIMIT) as finisher:
        for result in predictor.run(data, summary.failed, done=done, draft=draft):
            # A batch that was half written is run as a whole again, so that its images are padded as they were.
            if not done[result.index]:
                finisher.put(result)
    step(len(summary.failed) - told)


def _settings(predictor: Predictor, data: DetectionData, draft: bool) -> dict[str, object]:
    """What the detections depend on, beside the weights: in the order in which a user would look for a difference."""
    threshold = predictor.threshold
    limits = predictor.test.model_dump(mode="json", exclude={"batch_size"})
    return {
        "images": str(data.root),
        "threshold": threshold.tolist() if isinstance(threshold, np.ndarray) else threshold,
        "device": predictor.model.device.type,
        "precision": predictor.precision.name,
        "batch size": predictor.batch_size,
        "test-time augmentation": predictor.augmented,
        "draft": draft,
        **{f"test.{key}": value for key, value in limits.items()},
    }


def _place(folder: Path | None) -> str | None:
    return None if folder is None else str(folder.resolve())


def _sum_up(summary: Summary, writer: ResultWriter) -> None:
    summary.images, summary.detections, summary.invalid = writer.images, writer.detections, writer.invalid
    summary.partial = writer.journal.path if summary.interrupted else None
    summary.companion = companion_path(writer.path) if lists_images(writer.form, writer.data) else None
    summary.per_class = names_of(writer)
