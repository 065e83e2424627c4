"""How detections are written: `coco`, `csv` as one file, `yolo`, `voc` as a folder with a file an image. No torch."""

import csv
import io
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO, Literal
from xml.etree import ElementTree

import numpy as np

from fcos_cli.evaluation.detections import Columns
from fcos_cli.evaluation.results import coco_entry

FormatName = Literal["coco", "csv", "yolo", "voc"]
FRACTION_DECIMALS = 6


@dataclass(frozen=True)
class Seen:
    """An image as the formats need it: its name in the data set, its id, its (width, height) in pixels."""

    name: str
    image_id: int
    size: tuple[int, int]


@dataclass(frozen=True)
class Encoder:
    """Writes detections in one format.

    Attributes:
        names: class name of each category id, in label order.
        locations: whether level and location are written, where the format has a place for them.
    """

    names: dict[int, str]
    locations: bool = False

    # Whether the result is a folder with a file an image, ending in `suffix`.
    folder = False
    suffix = ""

    def encode(self, seen: Seen, detections: Columns) -> bytes:
        """The detections of one image: its part of the file, or the whole of its own file."""
        raise NotImplementedError

    def assemble(self, file: IO[bytes], parts: Iterable[bytes]) -> None:
        """The whole file from the parts of all images, one at a time."""
        raise NotImplementedError


class Coco(Encoder):
    """A COCO result list: [{"image_id", "category_id", "bbox" [x, y, width, height], "score"}, ...]."""

    def encode(self, seen: Seen, detections: Columns) -> bytes:
        written = detections if self.locations else detections[:4]
        rows = zip(*(column.tolist() for column in written), strict=True)
        return ",\n".join(coco_entry(*row) for row in rows).encode()

    def assemble(self, file: IO[bytes], parts: Iterable[bytes]) -> None:
        empty = True
        file.write(b"[")
        for part in filter(None, parts):
            file.write((b"\n" if empty else b",\n") + part)
            empty = False
        file.write(b"]\n" if empty else b"\n]\n")


class Csv(Encoder):
    """A table with a header: a row a detection, corners in pixels of the original image."""

    HEADER = ("file_name", "image_id", "width", "height", "category_id", "category", "score", "x1", "y1", "x2", "y2")
    ORIGIN = ("level", "location_x", "location_y")

    def encode(self, seen: Seen, detections: Columns) -> bytes:
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        for _, category, (x, y, w, h), score, level, location in zip(*(c.tolist() for c in detections), strict=True):
            corners = [x, y, round(x + w, 3), round(y + h, 3)]
            origin = [level, *location] if self.locations else []
            table.writerow(
                [seen.name, seen.image_id, *seen.size, category, self.names[category], score, *corners, *origin]
            )
        return text.getvalue().encode(errors="surrogateescape")

    def assemble(self, file: IO[bytes], parts: Iterable[bytes]) -> None:
        columns = (*self.HEADER, *(self.ORIGIN if self.locations else ()))
        file.write(",".join(columns).encode() + b"\n")
        for part in parts:
            file.write(part)


class Yolo(Encoder):
    """A text file an image: `class cx cy width height confidence`, as fractions of the image.

    The number of a class is its place in the file classes.txt of the folder.
    """

    folder, suffix = True, ".txt"

    def encode(self, seen: Seen, detections: Columns) -> bytes:
        number = {category: place for place, category in enumerate(self.names)}
        lines = []
        for category, (x, y, w, h), score in zip(*(c.tolist() for c in detections[1:4]), strict=True):
            width, height = seen.size
            fractions = ((x + w / 2) / width, (y + h / 2) / height, w / width, h / height)
            box = " ".join(f"{min(max(value, 0.0), 1.0):.{FRACTION_DECIMALS}f}" for value in fractions)
            lines.append(f"{number[category]} {box} {score}\n")
        return "".join(lines).encode()


class Voc(Encoder):
    """A Pascal VOC file an image; corners in pixels with three decimals, and a <confidence> for the score."""

    folder, suffix = True, ".xml"

    def encode(self, seen: Seen, detections: Columns) -> bytes:
        root = ElementTree.Element("annotation")
        _child(root, "filename", PurePosixPath(seen.name).name)
        size = _child(root, "size")
        for key, value in zip(("width", "height", "depth"), (*seen.size, 3), strict=True):
            _child(size, key, value)
        for category, (x, y, w, h), score in zip(*(c.tolist() for c in detections[1:4]), strict=True):
            item = _child(root, "object")
            _child(item, "name", self.names[category])
            _child(item, "difficult", 0)
            _child(item, "confidence", score)
            box = _child(item, "bndbox")
            for key, side in zip(("xmin", "ymin", "xmax", "ymax"), (x, y, x + w, y + h), strict=True):
                _child(box, key, round(side, 3))
        ElementTree.indent(root)
        return ElementTree.tostring(root, encoding="utf-8") + b"\n"


FORMATS: dict[str, type[Encoder]] = {"coco": Coco, "csv": Csv, "yolo": Yolo, "voc": Voc}


def _child(parent: ElementTree.Element, tag: str, value: object | None = None) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, tag)
    if value is not None:
        # XML has no place for control characters, which file names may hold.
        element.text = "".join(c if c.isprintable() else "?" for c in str(value))
    return element


class OutputNames:
    """Where the file that belongs to an image goes: under the image's own relative name, with another ending.

    Images that differ in their ending alone (a.png, a.jpg) keep it: a.png.txt, a.jpg.txt. A name does not depend on
    which images are done already, and never leads out of the folder.
    """

    def __init__(self, file_names: Sequence[str], image_ids: np.ndarray) -> None:
        self.file_names, self.image_ids = file_names, image_ids
        # A list is of files; a video makes its names, which differ in more than their endings.
        paths = [_inside(name) for name in file_names] if isinstance(file_names, list | tuple) else []
        self._shared = _twice(_key(path.with_suffix("")) for path in paths)
        # a.png beside both a.jpg and a.png.png
        self._clashing = _twice(_key(self._without_ending(path)) for path in paths)

    def of(self, index: int, ending: str) -> PurePosixPath:
        path = self._without_ending(_inside(self.file_names[index]))
        mark = f"-{self.image_ids[index]}" if _key(path) in self._clashing else ""
        return path.with_name(f"{path.name}{mark}{ending}")

    def _without_ending(self, path: PurePosixPath) -> PurePosixPath:
        stem = path.with_suffix("")
        return path if _key(stem) in self._shared else stem


def _twice(keys: Iterable[str]) -> set[str]:
    return {key for key, count in Counter(keys).items() if count > 1}


def _key(path: PurePosixPath) -> str:
    # Some file systems take A.txt and a.txt for one file.
    return str(path).casefold()


def _inside(name: str) -> PurePosixPath:
    given = PurePosixPath(Path(name).as_posix())
    return PurePosixPath(*(part for part in given.parts if part not in ("..", given.anchor)))


def replace_file(path: Path, content: bytes) -> None:
    """A file of an image, whole or absent also where the process is killed; without a flush to the disk for each.

    Raises:
        OSError: it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        temporary.write_bytes(content)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
