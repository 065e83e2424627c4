"""One Pascal VOC file. Source: the VOC 2012 development kit, section 3."""

import math
import re
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

from fcos_cli.data.findings import Findings, Kind
from fcos_cli.data.formats.assemble import NO_SIZE
from fcos_cli.data.formats.xml_file import xml_root
from fcos_cli.data.images import LARGEST_SIDE
from fcos_cli.errors import DataError

NO_BOX = Kind("objects without a bndbox", boxes=True)
NO_NAME = Kind("objects without a class name", boxes=True)
NO_NUMBERS = Kind("objects whose corners are no numbers", boxes=True)


class Object(NamedTuple):
    """An object: class, x0, y0, x1, y1, and `file, object 3` for people."""

    name: str
    box: tuple[float, float, float, float]
    difficult: bool
    where: str


class Annotation(NamedTuple):
    """A file: `<filename>`, width and height (0 where unknown) and the objects that can be used."""

    file_name: str
    size: tuple[int, int]
    objects: list[Object]


def parse_voc(file: Path, findings: Findings) -> Annotation:
    """Reads a file; objects that cannot be used are noted in `findings`.

    Raises:
        DataError: it is not XML or not Pascal VOC.
    """
    root = xml_root(file, "restore the annotation file")
    if root.tag != "annotation":
        raise DataError(f"{file}: the outer element is <{root.tag}>; a Pascal VOC file has <annotation>")
    objects = []
    for position, item in enumerate(root.findall("object"), start=1):
        parsed = _object(item, f"{file.name}, object {position}", findings)
        if parsed is not None:
            objects.append(parsed)
    return Annotation((root.findtext("filename") or "").strip(), _size(root, file.name, findings), objects)


def is_voc(file: Path) -> bool:
    """Whether an XML file has VOC's outer element."""
    with file.open("rb") as stream:
        head = stream.read(4096)
    # In UTF-16 every other byte is 0.
    return re.search(rb"<annotation[\s>]", head.replace(b"\0", b"")) is not None


def _object(item: ElementTree.Element, where: str, findings: Findings) -> Object | None:
    name = (item.findtext("name") or "").strip()
    bounds = item.find("bndbox")
    if not name:
        findings.add(NO_NAME, where)
        return None
    if bounds is None:
        findings.add(NO_BOX, where)
        return None
    corners = []
    for key in ("xmin", "ymin", "xmax", "ymax"):
        text = (bounds.findtext(key) or "").strip()
        try:
            corners.append(float(text))
        except ValueError:
            findings.add(NO_NUMBERS, f"{where}: {key} is {repr(text) if text else 'missing'}")
            return None
    return Object(name, (corners[0], corners[1], corners[2], corners[3]), _is_true(item.findtext("difficult")), where)


def _size(root: ElementTree.Element, file: str, findings: Findings) -> tuple[int, int]:
    texts = [(root.findtext(f"size/{key}") or "0").strip() for key in ("width", "height")]
    try:
        width, height = (float(text) for text in texts)
    except ValueError:
        width = height = math.nan
    if not (0 <= width <= LARGEST_SIDE and 0 <= height <= LARGEST_SIDE):
        findings.add(NO_SIZE, f"{file}: {' x '.join(texts)}")
        return 0, 0
    return int(width), int(height)


def _is_true(text: str | None) -> bool:
    """Whether a flag is set; words that mean neither (makesense.ai writes Unspecified) do not set it."""
    word = (text or "").strip().lower()
    return word in ("true", "yes") or (word.isdecimal() and int(word) != 0)
