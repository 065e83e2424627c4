"""Lines of YOLO's label files: boxes, polygons or oriented boxes, and keypoints, which look alike.

Source: the pages on detection, segmentation, OBB and pose data sets of Ultralytics' documentation.
"""

import math
from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import islice
from pathlib import Path

from fcos_cli.data.findings import Findings, Kind
from fcos_cli.data.formats.splits import read_text
from fcos_cli.data.records import Categories
from fcos_cli.errors import DataError

Box = tuple[float, float, float, float]
NOT_A_LABEL = Kind("label lines that are not `class cx cy w h` or a polygon", boxes=True)
NO_CLASS = Kind("label lines of a class that the data set does not list", boxes=True)
NOT_FRACTIONS = Kind("label lines in pixels: they must be fractions of the image's width and height", boxes=True)
CLIPPED = Kind("labels that reach a little beyond the image and are cut to it")
_TOLERANCE, _LITTLE = 0.01, 1.0
_FEW, _ENOUGH = 3, 2000
_SLACK = 0.02


class LineKind(Enum):
    """What the numbers after the class are, where there are more than four."""

    POLYGON = "polygons or oriented boxes"
    KEYPOINTS = "keypoints"


def kind_of_lines(files: Iterable[Path], where: str) -> LineKind:
    """The kind of the long lines of a data set whose index does not tell, from their columns.

    Polygons differ in their number of corners, and four corners are an oriented box. Keypoints are the same number in
    every line, and either carry a visibility (0, 1, 2) or lie within their box.

    Args:
        files: the label files of all splits; as many are read as it takes.
        where: the data set, for the error.

    Raises:
        DataError: the lines may be either.
    """
    lines = list(islice(_long_lines(files), _ENOUGH))
    lengths = {len(values) for values in lines}
    if len(lengths) != 1:
        return LineKind.POLYGON
    length = lengths.pop()
    if (length - 4) % 3 == 0 and all(value in (0, 1, 2) for values in lines for value in values[6::3]):
        return LineKind.KEYPOINTS
    if length % 2 or length <= 8 or len(lines) < _FEW:
        return LineKind.POLYGON
    if all(_within_box(values) for values in lines):
        return LineKind.KEYPOINTS
    raise DataError(
        f"{where}: every label has {length + 1} numbers, which may be keypoints behind a box or corners of polygons",
        f"say it in data.yaml: kpt_shape: [{(length - 4) // 2}, 2] for keypoints, task: segment for polygons",
    )


def read_labels(
    text: str, categories: Categories, kind: LineKind, file: str, findings: Findings
) -> list[tuple[int, Box, str]]:
    """The labels of one file that can be used: label, x1, y1, x2, y2 in fractions, and `file:line`.

    The others are found: lines that are no labels, of no class, or not in fractions. Coordinates that lie up to a
    hundredth beyond 0..1 stay, as rounding makes them; up to a whole image, the box is cut.
    """
    labels = []
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            where = f"{file}:{number}"
            label = _read_line(line, categories, kind, where, findings)
            if label is not None:
                labels.append((*label, where))
    return labels


def _read_line(
    line: str, categories: Categories, kind: LineKind, where: str, findings: Findings
) -> tuple[int, Box] | None:
    try:
        number, *values = (float(word) for word in line.split())
    except ValueError:
        findings.add(NOT_A_LABEL, f"{where}: not numbers: {line.strip()[:60]}")
        return None
    if not length_fits(values, kind):
        more = "; a prediction with its score, or a box with its angle?" if len(values) == 5 else ""
        findings.add(NOT_A_LABEL, f"{where}: {len(values) + 1} numbers{more}")
        return None
    if number not in categories.label_of:
        ends = [f"{categories.ids[end]} {categories.names[end]}" for end in (0, -1) if categories.ids]
        findings.add(
            NO_CLASS, f"{where}: class {number:g} is not among the {len(categories)} classes ({' to '.join(ends)})"
        )
        return None
    fractions = values[:4] if kind is LineKind.KEYPOINTS else values
    farthest = max((max(-value, value - 1) for value in fractions if not math.isnan(value)), default=0.0)
    if farthest > _LITTLE:
        findings.add(NOT_FRACTIONS, f"{where}: coordinates beyond 0..1")
        return None
    x1, y1, x2, y2 = box_of(values, kind)
    if farthest > _TOLERANCE:
        findings.add(CLIPPED, where)
        x1, y1, x2, y2 = (min(1.0, max(0.0, value)) for value in (x1, y1, x2, y2))
    return categories.label_of[int(number)], (x1, y1, x2, y2)


def box_of(values: Sequence[float], kind: LineKind) -> Box:
    """x1, y1, x2, y2 in fractions, from the numbers after the class."""
    if len(values) == 4 or kind is LineKind.KEYPOINTS:
        cx, cy, w, h = values[:4]
        return cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
    xs, ys = values[0::2], values[1::2]
    return min(xs), min(ys), max(xs), max(ys)


def length_fits(values: Sequence[float], kind: LineKind) -> bool:
    """Whether a line may have this many numbers after the class."""
    if len(values) == 4:
        return True
    return len(values) > 5 and (kind is LineKind.KEYPOINTS or len(values) % 2 == 0)


def _long_lines(files: Iterable[Path]) -> Iterable[list[float]]:
    for file in files:
        try:
            for line in read_text(file).splitlines():
                values = [float(word) for word in line.split()[1:]]
                if len(values) > 5:
                    yield values
        # What cannot be read says nothing of the kind; the reader names it.
        except (DataError, ValueError):
            continue


def _within_box(values: Sequence[float]) -> bool:
    """Whether all points behind the box lie in it; points that are not seen are 0, 0."""
    x1, y1, x2, y2 = box_of(values[:4], LineKind.KEYPOINTS)
    points = zip(values[4::2], values[5::2], strict=True)
    return all(
        (x, y) == (0, 0) or (x1 - _SLACK <= x <= x2 + _SLACK and y1 - _SLACK <= y <= y2 + _SLACK) for x, y in points
    )
