"""Writes Pascal VOC: one XML file an image. Crowd becomes `difficult`; areas are those of the boxes."""

import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from xml.etree import ElementTree

from fcos_cli.data.convert.target import Part, Target, Written
from fcos_cli.data.formats.splits import ALL

DECIMALS = 3


class Voc(Target):
    """`Annotations/`, `JPEGImages/`, `ImageSets/Main/<split>.txt`, and `labels.txt`, which keeps the classes' order.

    Corners are in pixels with three decimals where they are not whole.
    """

    name = "voc"
    first_class = 1
    one_folder = True

    def image_folder(self, split: str) -> str:
        return "JPEGImages"

    def stem(self, stem: str) -> str:
        # The lists of splits end a name at the first blank.
        return re.sub(r"\s", "_", super().stem(stem))

    def write(self, folder: Path, parts: Sequence[Part], written: Written) -> None:
        (folder / "Annotations").mkdir()
        names = list(parts[0].data.categories.names)
        (folder / "labels.txt").write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        for part in parts:
            for index, image in enumerate(part.images):
                _write_file(folder / "Annotations" / f"{PurePosixPath(image).stem}.xml", part, index)
            if part.name != ALL:
                lists = folder / "ImageSets" / "Main"
                lists.mkdir(parents=True, exist_ok=True)
                stems = "".join(f"{PurePosixPath(image).stem}\n" for image in part.images)
                (lists / f"{part.name}.txt").write_text(stems, encoding="utf-8")
            written.images[part.name] = len(part.data)
            written.boxes[part.name] = len(part.data.boxes)


def _write_file(path: Path, part: Part, index: int) -> None:
    data = part.data
    root = ElementTree.Element("annotation")
    _child(root, "folder", "JPEGImages")
    _child(root, "filename", PurePosixPath(part.images[index]).name)
    size = _child(root, "size")
    for key, value in zip(("width", "height", "depth"), (*data.sizes[index].tolist(), 3), strict=True):
        _child(size, key, value)
    _child(root, "segmented", 0)
    rows = data.rows(index)
    columns = (data.labels[rows].tolist(), data.boxes[rows].tolist(), data.crowd[rows].tolist())
    for label, corners, crowd in zip(*columns, strict=True):
        item = _child(root, "object")
        _child(item, "name", data.categories.names[label])
        _child(item, "pose", "Unspecified")
        _child(item, "truncated", 0)
        _child(item, "difficult", int(crowd))
        box = _child(item, "bndbox")
        for key, value in zip(("xmin", "ymin", "xmax", "ymax"), corners, strict=True):
            _child(box, key, f"{value:.{DECIMALS}f}".rstrip("0").rstrip("."))
    ElementTree.indent(root)
    path.write_bytes(ElementTree.tostring(root, encoding="utf-8") + b"\n")


def _child(parent: ElementTree.Element, key: str, value: object = None) -> ElementTree.Element:
    element = ElementTree.SubElement(parent, key)
    if value is not None:
        element.text = str(value)
    return element
