"""Lines of YOLO's label files: boxes, polygons or oriented boxes, and keypoints, which look alike.

Source: the pages on detection, segmentation, OBB and pose data sets of Ultralytics' documentation.
"""

from collections.abc import Iterable, Sequence
from enum import Enum
from itertools import islice
from pathlib import Path

from fcos_cli.errors import DataError

Box = tuple[float, float, float, float]
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
            text = file.read_text(encoding="utf-8-sig")
            for line in text.splitlines():
                values = [float(word) for word in line.split()[1:]]
                if len(values) > 5:
                    yield values
        # What cannot be read says nothing of the kind; the reader names it.
        except (OSError, ValueError):
            continue


def _within_box(values: Sequence[float]) -> bool:
    """Whether all points behind the box lie in it; points that are not seen are 0, 0."""
    x1, y1, x2, y2 = box_of(values[:4], LineKind.KEYPOINTS)
    points = zip(values[4::2], values[5::2], strict=True)
    return all(
        (x, y) == (0, 0) or (x1 - _SLACK <= x <= x2 + _SLACK and y1 - _SLACK <= y <= y2 + _SLACK) for x, y in points
    )
