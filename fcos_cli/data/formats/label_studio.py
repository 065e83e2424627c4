"""Label Studio's JSON and JSON-MIN exports: a list of tasks. Source: Label Studio's documentation of its exports.

Coordinates are percents of the image, rectangles turn about their upper left corner. Rectangles, polygons and ellipses
become the box around them. Of a task that several people annotated the first annotation counts.
"""

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec

from fcos_cli.data.findings import Findings, Kind, Weight
from fcos_cli.data.formats.finding import ImageFinder
from fcos_cli.data.formats.format import Format
from fcos_cli.data.formats.named import (
    BAD_SHAPE,
    NO_LABEL,
    Box,
    NamedBox,
    NamedImage,
    class_names,
    named_data,
    named_split,
    title,
)
from fcos_cli.data.formats.splits import ALL, Split
from fcos_cli.data.image_names import is_image_name
from fcos_cli.data.images import LARGEST_SIDE
from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError

NOT_A_BOX = Kind("results that are no shapes with an area (key points, brushes, choices, texts)", boxes=True)
NOT_DONE = Kind("tasks left out, without an annotation that was not cancelled")
NO_IMAGE = Kind("tasks left out, without an image")
SEVERAL = Kind("tasks with several annotations, of which the first is taken", Weight.NOTE)
_KINDS = ("rectanglelabels", "polygonlabels", "ellipselabels", "labels")


def label_studio_splits(folder: Path) -> dict[str, Split]:
    """The one split of a folder that holds an export of Label Studio."""
    files = [file for file in sorted(folder.glob("*.json")) if is_label_studio(file)]
    return label_studio_file_splits(files[0]) if len(files) == 1 else {file.stem: _split(file) for file in files}


def label_studio_file_splits(file: Path) -> dict[str, Split]:
    """The one split of an export."""
    return {ALL: _split(file, ALL)}


def read_label_studio(file: Path, split: str = ALL) -> DetectionData:
    """An export as a data set.

    Raises:
        DataError: it is not JSON, a task has no image, or a shape's coordinates are no numbers.
    """
    finder = ImageFinder(file.parent)
    found = Findings()
    images = []
    for number, task in enumerate(_tasks(file), start=1):
        place = f"task {task.get('id', number)}"
        results = _results(task)
        if results is None:
            found.add(NOT_DONE, place)
            continue
        if len(_done(task)) > 1:
            found.add(SEVERAL, place)
        boxes = []
        size = (0, 0)
        for result in results:
            inner = result.get("value")
            value = {**result, **(inner if isinstance(inner, dict) else {})}
            try:
                box = _box(value)
            except (ArithmeticError, KeyError, TypeError, ValueError):
                found.add(BAD_SHAPE, place)
                continue
            label = _label(value)
            if box is None or not label:
                found.add(NOT_A_BOX if box is None else NO_LABEL, place)
                continue
            boxes.append(NamedBox(label, box))
            size = (_side(result.get("original_width")), _side(result.get("original_height")))
        written = _image(task)
        if not written:
            found.add(NO_IMAGE, place)
            continue
        name = finder.find(written, [file.parent / "images", file.parent])
        images.append(NamedImage(name, boxes, size, fractions=True))
    classes = class_names(images)
    return named_data(title(file.parent, split), file.parent, images, classes, findings=found)


def is_label_studio(file: Path) -> bool:
    """Whether a JSON file is an export of Label Studio, by how it starts."""
    if file.name.startswith("."):
        return False
    with file.open("rb") as stream:
        head = stream.read(1 << 16).lstrip(b"\xef\xbb\xbf \t\r\n")
    marks = (b'"annotations"', b'"rectanglelabels"', b'"polygonlabels"', b'"annotation_id"', b'"total_annotations"')
    return head.startswith(b"[") and any(mark in head for mark in marks) and b'"image_id"' not in head


def _split(file: Path, split: str | None = None) -> Split:
    name = split or file.stem
    return named_split(lambda: read_label_studio(file, name), lambda: len(_tasks(file)), name, lambda: [file])


def _tasks(file: Path) -> list[dict[str, Any]]:
    try:
        tasks = msgspec.json.decode(file.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, ValueError) as error:
        raise DataError(f"{file}: not valid JSON: {error}", "export it again") from None
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise DataError(f"{file}: not an export of Label Studio", "export it as JSON or JSON-MIN, or as COCO")
    return tasks


def _results(task: dict[str, Any]) -> list[dict[str, Any]] | None:
    """The shapes of a task: of its first annotation (JSON), of its lists of labels (JSON-MIN); None: not annotated."""
    if "annotations" in task or "completions" in task:
        done = _done(task)
        results = _list(done[0].get("result")) if done else None
    else:
        lists = [value for value in task.values() if isinstance(value, list) and value]
        results = next((value for value in lists if isinstance(value[0], dict)), [])
    return None if results is None else [item for item in results if isinstance(item, dict)]


def _done(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Annotations of a task that were not cancelled."""
    every = _list(task.get("annotations")) or _list(task.get("completions"))
    return [item for item in every if isinstance(item, dict) and not item.get("was_cancelled")]


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _label(value: dict[str, Any]) -> str:
    """The first label of a shape; empty where it has none."""
    labels = next((value[kind] for kind in _KINDS if value.get(kind)), "")
    first = labels[0] if isinstance(labels, list) else labels
    return first.strip() if isinstance(first, str) else ""


def _image(task: dict[str, Any]) -> str:
    """The image of a task; empty where it has none."""

    def texts() -> Iterator[str]:
        inner = task.get("data")
        data: dict[str, Any] = inner if isinstance(inner, dict) else task
        yield from (str(data[key]) for key in ("image", "img", "url", "ocr") if data.get(key))
        yield from (value for value in data.values() if isinstance(value, str) and is_image_name(value.split("?")[0]))
        yield str(task.get("file_upload") or "")

    return next((text for text in texts() if text), "")


def _side(value: object) -> int:
    """A width or height; 0 where it is none."""
    return int(value) if isinstance(value, int | float) and 0 < value <= LARGEST_SIDE else 0


def _box(value: dict[str, Any]) -> Box | None:
    """Around a shape, in fractions of the image; None where it is no shape with an area.

    Coordinates that are no numbers raise ValueError or its like.
    """
    if "points" in value:
        xs, ys = [float(x) for x, _ in value["points"]], [float(y) for _, y in value["points"]]
        corners = list(zip(xs, ys, strict=True))
    elif "radiusX" in value:
        x, y, rx, ry = (float(value[key]) for key in ("x", "y", "radiusX", "radiusY"))
        corners = [(x - rx, y - ry), (x + rx, y + ry)]
    elif "width" in value and "x" in value:
        corners = _turned(value)
    else:
        return None
    if len(corners) < 2:
        return None
    xs, ys = [x / 100 for x, _ in corners], [y / 100 for _, y in corners]
    return min(xs), min(ys), max(xs), max(ys)


def _turned(value: dict[str, Any]) -> list[tuple[float, float]]:
    """Corners of a rectangle that is turned about its upper left one; angles hold in pixels, not in percents."""
    x, y, w, h = (float(value[key]) for key in ("x", "y", "width", "height"))
    angle = math.radians(float(value.get("rotation") or 0))
    aspect = float(value.get("original_width") or 1) / float(value.get("original_height") or 1)
    corners = []
    for right, down in ((0.0, 0.0), (w, 0.0), (0.0, h), (w, h)):
        across, along = right * aspect, down
        corners.append(
            (
                x + (across * math.cos(angle) - along * math.sin(angle)) / aspect,
                y + across * math.sin(angle) + along * math.cos(angle),
            )
        )
    return corners


LABEL_STUDIO = Format(
    "Label Studio",
    "an export as JSON",
    label_studio_splits,
    suffixes=(".json",),
    file="an export of Label Studio (.json)",
    file_splits=label_studio_file_splits,
    recognises=is_label_studio,
)
