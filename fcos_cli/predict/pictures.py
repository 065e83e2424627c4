"""Pictures of detections: whole images with their boxes, and the boxes cut out, a folder a class."""

import math
import os
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from fcos_cli.data.records import DetectionData
from fcos_cli.data.sources.opening import image_paths
from fcos_cli.errors import UsageError
from fcos_cli.evaluation.detections import ImageResult
from fcos_cli.predict.formats import OutputNames
from fcos_cli.report.draw import draw_boxes, save_picture

PICTURE_THRESHOLD = 0.3


class Pictures:
    """Makes the pictures of one image after another, as JPEG; safe to call from several threads.

    Args:
        data: the images.
        class_names: of the model's labels.
        threshold: smallest score that is shown.
        drawn: folder for the images with their boxes, under their own relative names; None: none are drawn.
        crops: folder for the boxes cut out: `<class>/<image>_<number>.jpg`, best first; None: none are cut.
    """

    def __init__(
        self,
        data: DetectionData,
        class_names: Sequence[str],
        threshold: float = PICTURE_THRESHOLD,
        *,
        drawn: Path | None = None,
        crops: Path | None = None,
    ) -> None:
        self.data, self.class_names, self.threshold = data, class_names, threshold
        self.drawn, self.crops = drawn, crops
        self.names = OutputNames(data.file_names, data.image_ids)

    def __call__(self, result: ImageResult) -> None:
        """Read the image again and write its pictures.

        Raises:
            DataError: the image is gone.
            OSError: a picture cannot be written.
        """
        shown = result.scores >= self.threshold
        if self.drawn is None and not shown.any():
            return
        pixels = self.data.read(result.index)
        boxes, labels = result.boxes[shown], result.labels[shown]
        if self.drawn is not None:
            picture = draw_boxes(pixels, boxes, labels, self.class_names, result.scores[shown])
            save_picture(picture, self.drawn / self._file(result.index))
        if self.crops is not None:
            image, own = Image.fromarray(pixels), self._file(result.index)
            for number, (label, box) in enumerate(zip(labels.tolist(), boxes.tolist(), strict=True), start=1):
                folder = self.crops / folder_name(self.class_names[label])
                save_picture(image.crop(_whole(box)), folder / own.with_name(f"{own.stem}_{number}.jpg"))

    def check(self) -> None:
        """Make sure, before anything is written, that no picture takes the place of an image.

        Raises:
            UsageError: one would.
        """
        images = image_paths(self.data)
        folders = {os.path.dirname(path) for path in images}
        if self.drawn is not None:
            place = Path(os.path.realpath(self.drawn))
            if any(Path(folder).is_relative_to(place) for folder in folders):
                targets = (place / self._file(index) for index in range(len(self.data)))
                _refuse(next((target for target in targets if str(target) in images), None))
        if self.crops is not None:
            places = [Path(os.path.realpath(self.crops / folder_name(name))) for name in self.class_names]
            _refuse(next((f for f in folders if any(Path(f).is_relative_to(place) for place in places)), None))

    def _file(self, index: int) -> Path:
        return Path(self.names.of(index, ".jpg"))


def _refuse(place: Path | str | None) -> None:
    if place is not None:
        raise UsageError(
            f"pictures would overwrite what is predicted on: {place}",
            "choose folders of their own for --draw and --save-crops",
        )


def folder_name(class_name: str) -> str:
    """A class name as the name of a folder: `traffic light`, but `either_or` for `either/or`."""
    name = "".join("_" if c in '/\\:*?"<>|' or not c.isprintable() else c for c in class_name).strip()
    return "_" + name if name.startswith(".") or not name else name


def _whole(box: list[float]) -> tuple[int, int, int, int]:
    """The whole pixels that a box touches; at least one."""
    left, top = math.floor(box[0]), math.floor(box[1])
    return left, top, max(left + 1, math.ceil(box[2])), max(top + 1, math.ceil(box[3]))
