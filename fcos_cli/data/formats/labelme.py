"""LabelMe: one JSON file an image, with `shapes`. Source: the files of labelme 3 to 5 (`labelme/label_file.py`).

Rectangles, polygons, circles and masks become the box around them; points and lines have no area and are left out.
"""

import os
from pathlib import Path
from typing import Any

import msgspec

from fcos_cli.data.findings import Findings, Kind
from fcos_cli.data.formats.assemble import UNREADABLE
from fcos_cli.data.formats.finding import ImageFinder
from fcos_cli.data.formats.format import Format
from fcos_cli.data.formats.named import (
    BAD_SHAPE,
    NO_LABEL,
    Box,
    NamedBox,
    NamedImage,
    class_names,
    folders_of_splits,
    named_data,
    named_split,
    title,
)
from fcos_cli.data.formats.splits import Split, class_names_beside
from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError

_LOOKED_AT = 20
_FOLDERS = ("annotations", "Annotations", "labels", "json", "jsons")
NOT_A_BOX = Kind("shapes without an area (points, lines)", boxes=True)


def labelme_splits(folder: Path) -> dict[str, Split]:
    """The splits of a folder of LabelMe files: in it, in one folder a split, or in a folder of their own."""
    deeper = [folder / name for name in _FOLDERS if (folder / name).is_dir()]
    found = (folders_of_splits(place, _has_files) for place in (folder, *deeper))
    places = next((places for places in found if places), {})
    return {name: _split(folder, name, places) for name in places}


def read_labelme(file: Path, finder: ImageFinder) -> tuple[NamedImage, Findings]:
    """One file, and what was left out of it.

    Raises:
        DataError: it is not JSON or not LabelMe's; names the file.
    """
    content = _load(file)
    found = Findings()
    boxes = []
    for number, shape in enumerate(content["shapes"], start=1):
        where = f"{file.name}, shape {number}"
        try:
            box = _box(shape)
        except (AttributeError, TypeError, ValueError):
            found.add(BAD_SHAPE, where)
            continue
        label = str(shape.get("label") or "").strip()
        if box is None or not label:
            found.add(NOT_A_BOX if box is None else NO_LABEL, where)
        else:
            boxes.append(NamedBox(label, box))
    above, own = file.parent.parent, file.parent.name
    near = [file.parent, above / "images", above, above.parent / "images" / own, above.parent / own]
    name = finder.find(str(content.get("imagePath") or f"{file.stem}.jpg"), near)
    if not os.path.isfile(finder.folder / name):
        name = finder.by_stem(file.stem, near) or name
    size = (_whole(content.get("imageWidth")), _whole(content.get("imageHeight")))
    return NamedImage(name, boxes, size), found


def _split(folder: Path, split: str, places: dict[str, list[Path]]) -> Split:
    def files(name: str) -> list[Path]:
        return [file for place in places[name] for file in _candidates(place) if _is_labelme(file)]

    def read() -> DetectionData:
        finder = ImageFinder(folder)
        parsed: dict[str, list[NamedImage]] = {name: [] for name in places}
        found = Findings()
        for name, images in parsed.items():
            for file in files(name):
                # What is odd in other splits is said by these.
                own = found if name == split else Findings()
                try:
                    image, odd = read_labelme(file, finder)
                except DataError as error:
                    own.add(UNREADABLE, error.message)
                else:
                    images.append(image)
                    own.extend(odd)
        everything = [image for images in parsed.values() for image in images]
        classes = class_names(everything, class_names_beside(folder) or ())
        return named_data(title(folder, split), folder, parsed[split], classes, findings=found)

    return named_split(read, lambda: len(files(split)), split, lambda: files(split))


def _box(shape: dict[str, Any]) -> Box | None:
    """Around a shape; None where it has no area. Points that are no pairs of numbers raise ValueError or its like."""
    kind, points = shape.get("shape_type") or "polygon", shape.get("points") or ()
    xs, ys = [float(x) for x, _ in points], [float(y) for _, y in points]
    if kind == "circle" and len(xs) == 2:
        radius = ((xs[1] - xs[0]) ** 2 + (ys[1] - ys[0]) ** 2) ** 0.5
        return xs[0] - radius, ys[0] - radius, xs[0] + radius, ys[0] + radius
    if kind in ("point", "points", "line", "linestrip") or len(xs) < 2 or (kind == "polygon" and len(xs) < 3):
        return None
    return min(xs), min(ys), max(xs), max(ys)


def _load(file: Path) -> dict[str, Any]:
    try:
        content = msgspec.json.decode(file.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, ValueError) as error:
        raise DataError(f"{file}: not valid JSON: {error}", "restore the annotation file") from None
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    if not isinstance(content, dict) or not isinstance(content.get("shapes"), list):
        raise DataError(f"{file}: not a LabelMe file", "it needs a list `shapes`")
    return content


def _whole(value: object) -> int:
    return int(value) if isinstance(value, int | float) and 0 < value < 1 << 31 else 0


def _candidates(folder: Path) -> list[Path]:
    return [file for file in sorted(folder.glob("*.json")) if not file.name.startswith(".")]


def _has_files(folder: Path) -> bool:
    return any(_is_labelme(file) for file in _candidates(folder)[:_LOOKED_AT])


def _is_labelme(file: Path) -> bool:
    """By its content: the key may stand behind megabytes of `imageData`, so the end of the file is looked at, too."""
    size = file.stat().st_size
    with file.open("rb") as stream:
        head = stream.read(1 << 14)
        stream.seek(max(0, size - (1 << 14)))
        ends = head + stream.read()
    return head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{") and b'"shapes"' in ends and b'"imagePath"' in ends


LABELME = Format("LabelMe", "*.json with `shapes`, one an image", labelme_splits)
