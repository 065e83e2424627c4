"""A whole prediction: images in, a result list and pictures on disk out, in constant memory."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.inference.predictor import Failure, ImageResult, Predictor
from fcos_cli.inference.results import UNKNOWN_CATEGORY, ResultWriter, companion_path, match_categories, result_writer
from fcos_cli.report.draw import draw_boxes, save_picture

PICTURE_THRESHOLD = 0.3


@dataclass
class Summary:
    """What a prediction did.

    Attributes:
        images: images predicted on.
        detections: detections written.
        seconds: from the first image to the last.
        failed: images that could not be read.
        invalid: detections left out because they were not finite.
        interrupted: Ctrl-C ended it early; what was done is on disk.
        companion: the file that lists the images, where the data set has none of its own.
        per_class: detections per class name, most first.
        absent: classes of the model that the data set lacks; their detections are not written.
    """

    images: int = 0
    detections: int = 0
    seconds: float = 0.0
    failed: list[Failure] = field(default_factory=list)
    invalid: int = 0
    interrupted: bool = False
    companion: Path | None = None
    per_class: list[tuple[str, int]] = field(default_factory=list)
    absent: tuple[str, ...] = ()


def predict_to_file(
    predictor: Predictor,
    categories: Categories,
    data: DetectionData,
    out: Path,
    *,
    locations: bool = False,
    pictures: Path | None = None,
    picture_threshold: float = PICTURE_THRESHOLD,
    step: Callable[[int], None] = lambda count: None,
) -> Summary:
    """Predicts on every image of `data` and writes a COCO result list.

    Args:
        predictor: the detector.
        categories: its classes, in label order.
        data: images; where they belong to a data set with classes, its own category ids are written.
        out: the .json file.
        locations: write the level and the location that each detection came from, as `result_writer` does.
        pictures: folder for the images with their boxes drawn in.
        picture_threshold: smallest score that is drawn.
        step: called with the number of images finished, readable or not.

    Raises:
        DataError: the data set has classes that the model does not know.
        OSError: a file cannot be written; an older result list stays as it was.
    """
    summary = Summary()
    category_ids, summary.absent = match_categories(categories, data)
    bare = not len(data.categories)
    album = _Album(pictures, data, categories, picture_threshold) if pictures else None
    started = time.perf_counter()
    try:
        listed = data if bare else None
        with result_writer(out, category_ids, data=listed, categories=categories, locations=locations) as writer:
            known_failures = 0
            for result in predictor.run(data, summary.failed):
                writer.add(result)
                if album:
                    album.add(result)
                step(1 + len(summary.failed) - known_failures)
                known_failures = len(summary.failed)
    except KeyboardInterrupt:
        summary.interrupted = True
    summary.seconds = time.perf_counter() - started
    summary.images, summary.detections, summary.invalid = writer.images, writer.detections, writer.invalid
    summary.companion = companion_path(out) if bare else None
    summary.per_class = _by_name(writer, categories, category_ids.tolist())
    return summary


def _by_name(writer: ResultWriter, categories: Categories, category_ids: list[int]) -> list[tuple[str, int]]:
    names = {i: name for i, name in zip(category_ids, categories.names, strict=True) if i != UNKNOWN_CATEGORY}
    counts = [(names[category], count) for category, count in writer.per_class.items()]
    return sorted(counts, key=lambda entry: (-entry[1], entry[0]))


class _Album:
    """Pictures under the images' own relative names, as JPEG."""

    def __init__(self, folder: Path, data: DetectionData, categories: Categories, threshold: float) -> None:
        self.folder, self.data, self.categories, self.threshold = folder, data, categories, threshold
        self.taken: set[PurePosixPath] = set()

    def add(self, result: ImageResult) -> None:
        shown = result.scores >= self.threshold
        picture = draw_boxes(
            self.data.read(result.index),
            result.boxes[shown],
            result.labels[shown],
            self.categories.names,
            result.scores[shown],
        )
        save_picture(picture, self.folder / self._name(result.index))

    def _name(self, index: int) -> PurePosixPath:
        given = PurePosixPath(Path(self.data.file_names[index]).as_posix())
        inside = PurePosixPath(*(part for part in given.parts if part not in ("..", given.anchor)))
        name = inside.with_suffix(".jpg")
        if name in self.taken:
            name = inside.with_name(f"{inside.name}.jpg")
        self.taken.add(name)
        return name
