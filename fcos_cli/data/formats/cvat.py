"""CVAT for images 1.1: one XML file for many images. Source: the format's page in CVAT's documentation.

Boxes (rotated ones too), polygons, ellipses and masks become the box around them; points and lines are left out. An
image's `subset` is its split.
"""

import math
from pathlib import Path
from xml.etree import ElementTree

from fcos_cli.data.findings import Findings, Kind
from fcos_cli.data.formats.finding import ImageFinder
from fcos_cli.data.formats.format import Format
from fcos_cli.data.formats.named import (
    BAD_SHAPE,
    Box,
    NamedBox,
    NamedImage,
    class_names,
    named_data,
    named_split,
    title,
)
from fcos_cli.data.formats.splits import ALL, Split
from fcos_cli.data.formats.xml_file import xml_root
from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError

NOT_A_BOX = Kind("shapes without an area (points, lines)", boxes=True)
_SHAPES = ("box", "polygon", "ellipse", "mask", "cuboid", "points", "polyline", "skeleton", "tag")


def cvat_splits(folder: Path) -> dict[str, Split]:
    """The splits of a folder that holds CVAT's `annotations.xml`."""
    file = next((file for file in sorted(folder.glob("*.xml")) if is_cvat(file)), None)
    return {} if file is None else cvat_file_splits(file)


def cvat_file_splits(file: Path) -> dict[str, Split]:
    """The splits of CVAT's file: the subsets of its images."""
    root = _root(file)
    subsets = dict.fromkeys((image.get("subset") or "").strip() for image in root.iter("image"))
    if len(subsets) <= 1:
        return {ALL: _split(file, ALL, None)}
    return {name or "default": _split(file, name or "default", name) for name in subsets}


def read_cvat(file: Path, split: str = ALL, subset: str | None = None) -> DetectionData:
    """The images of CVAT's file, all of them or those of one subset.

    Raises:
        DataError: the file is not XML, or holds tracks of a video.
    """
    root = _root(file)
    finder = ImageFinder(file.parent)
    findings = Findings()
    images = []
    everything = []
    for element in root.iter("image"):
        part = (element.get("subset") or "").strip()
        # An export of a project has a folder for each subset.
        near = [file.parent / "images" / part, file.parent / part, file.parent / "images", file.parent]
        name = finder.find(element.get("name") or "", near)
        own = findings if subset in (None, part) else Findings()
        boxes = []
        for shape in element:
            if shape.tag not in _SHAPES:
                continue
            try:
                box = _box(shape)
            except ValueError:
                own.add(BAD_SHAPE, f"{name}: <{shape.tag}>")
                continue
            if box is None:
                own.add(NOT_A_BOX, f"{name}: <{shape.tag}>")
            else:
                boxes.append(NamedBox((shape.get("label") or "").strip(), box))
        image = NamedImage(name, boxes, (_whole(element.get("width")), _whole(element.get("height"))))
        everything.append(image)
        if own is findings:
            images.append(image)
    listed = [(item.findtext("name") or "").strip() for item in root.findall(".//labels/label")]
    classes = class_names(everything, [name for name in listed if name])
    return named_data(title(file.parent, split), file.parent, images, classes, findings=findings)


def is_cvat(file: Path) -> bool:
    """Whether an XML file is CVAT's, by its outer element."""
    if file.name.startswith("."):
        return False
    with file.open("rb") as stream:
        return b"<annotations" in stream.read(4096)


def _split(file: Path, split: str, subset: str | None) -> Split:
    def count() -> int:
        images = _root(file).iter("image")
        return sum(1 for image in images if subset is None or (image.get("subset") or "").strip() == subset)

    return named_split(lambda: read_cvat(file, split, subset), count, split, lambda: [file])


def _root(file: Path) -> ElementTree.Element:
    root = xml_root(file, "export it again")
    if root.tag != "annotations":
        raise DataError(f"{file}: the outer element is <{root.tag}>; CVAT's file has <annotations>")
    if root.find("track") is not None and root.find("image") is None:
        raise DataError(f"{file}: CVAT's format for videos (tracks)", "export it as `CVAT for images 1.1`")
    return root


def _box(shape: ElementTree.Element) -> Box | None:
    """The box around a shape; None where it has no area. Raises ValueError where a coordinate is no number."""

    def number(key: str) -> float:
        return float(shape.get(key) or "")

    if shape.tag == "box":
        box = number("xtl"), number("ytl"), number("xbr"), number("ybr")
        return rotated(box, float(shape.get("rotation") or 0))
    if shape.tag == "mask":
        left, top = number("left"), number("top")
        return left, top, left + number("width"), top + number("height")
    if shape.tag == "ellipse":
        x, y, rx, ry = number("cx"), number("cy"), number("rx"), number("ry")
        angle = math.radians(float(shape.get("rotation") or 0))
        half_w = math.hypot(rx * math.cos(angle), ry * math.sin(angle))
        half_h = math.hypot(rx * math.sin(angle), ry * math.cos(angle))
        return x - half_w, y - half_h, x + half_w, y + half_h
    if shape.tag == "cuboid":
        corners = [f"{key}{corner}{side}" for key in "xy" for corner in ("t", "b") for side in ("l1", "l2", "r1", "r2")]
        values = [number(key) for key in corners]
        return min(values[:8]), min(values[8:]), max(values[:8]), max(values[8:])
    if shape.tag != "polygon":
        return None
    pairs = [pair.split(",") for pair in (shape.get("points") or "").split(";") if pair]
    xs, ys = [float(x) for x, _ in pairs], [float(y) for _, y in pairs]
    return (min(xs), min(ys), max(xs), max(ys)) if len(xs) > 2 else None


def rotated(box: Box, degrees: float) -> Box:
    """The upright box around a box that is turned about its centre."""
    if not degrees:
        return box
    angle = math.radians(degrees)
    x, y, half_w, half_h = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2, (box[2] - box[0]) / 2, (box[3] - box[1]) / 2
    wide = abs(half_w * math.cos(angle)) + abs(half_h * math.sin(angle))
    high = abs(half_w * math.sin(angle)) + abs(half_h * math.cos(angle))
    return x - wide, y - high, x + wide, y + high


def _whole(text: str | None) -> int:
    return int(text) if text and text.isdecimal() and len(text) < 10 else 0


CVAT = Format(
    "CVAT",
    "annotations.xml",
    cvat_splits,
    suffixes=(".xml",),
    file="CVAT's annotations.xml",
    file_splits=cvat_file_splits,
)
