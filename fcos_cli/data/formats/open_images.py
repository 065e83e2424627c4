"""Open Images: CSV files of boxes in fractions of the image. Source: its page "Data Formats".

`IsGroupOf` boxes are crowd. The classes' readable names are in `class-descriptions-boxable.csv` (FiftyOne:
`metadata/classes.csv`). Of the images that a CSV file lists, those that are there are the data set.
"""

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from fcos_cli.data.findings import EXAMPLES, Findings, Kind
from fcos_cli.data.formats.finding import ImageFinder
from fcos_cli.data.formats.format import Format
from fcos_cli.data.formats.named import BAD_SHAPE, NamedBox, NamedImage, class_names, named_data, named_split, title
from fcos_cli.data.formats.splits import ALL, Split, meaning
from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError

_COLUMNS = ("ImageID", "LabelName", "XMin", "XMax", "YMin", "YMax")
ABSENT = Kind("boxes of images that are not in the folder", boxes=True)


def open_images_splits(folder: Path) -> dict[str, Split]:
    """The splits of a folder: one CSV file of boxes each."""
    patterns = ("*.csv", "annotations/*.csv", "labels/*.csv", "*/labels/*.csv", "boxes/*.csv")
    files = [file for pattern in patterns for file in sorted(folder.glob(pattern)) if is_open_images(file)]
    named = {_name(folder, file): file for file in files}
    return {name: _split(folder, name, file) for name, file in named.items()}


def open_images_file_splits(file: Path) -> dict[str, Split]:
    """The one split of a CSV file of boxes."""
    return {ALL: _split(file.parent, ALL, file)}


def read_open_images(file: Path, folder: Path, split: str = ALL) -> DetectionData:
    """A CSV file of boxes, with the images below `folder`.

    Raises:
        DataError: it is not Open Images' CSV; names the line.
    """
    readable = _descriptions(folder, file)
    finder = ImageFinder(folder)
    near = [place / part for place in (folder, file.parent.parent) for part in (split, "data", "images", ".")]
    boxes: dict[str, list[NamedBox]] = {}
    place_of: dict[str, str | None] = {}
    findings = Findings()
    absent = 0
    for number, row in enumerate(_rows(file), start=2):
        image = row["ImageID"]
        if image not in place_of:
            place_of[image] = finder.by_stem(image, near)
        place = place_of[image]
        if place is None:
            absent += 1
            continue
        try:
            x0, x1, y0, y1 = (float(row[key]) for key in _COLUMNS[2:])
        except (TypeError, ValueError):
            findings.add(BAD_SHAPE, f"{file.name}:{number}")
            continue
        name = readable.get(row["LabelName"], row["LabelName"])
        boxes.setdefault(place, []).append(NamedBox(name, (x0, y0, x1, y1), row.get("IsGroupOf") == "1"))
    images = [NamedImage(place, items, fractions=True) for place, items in boxes.items()]
    missing = [image for image, place in place_of.items() if place is None]
    if missing and not images:
        raise DataError(
            f"{file}: none of its {len(missing):,} images is in {folder} (looked for {missing[0]}.jpg)",
            "download the images of this split into the folder",
        )
    findings.add(ABSENT, *missing[:EXAMPLES], count=absent)
    listed = list(readable.values()) if len(readable) <= len(boxes) else []
    classes = class_names(images, listed)
    return named_data(title(folder, split), folder, images, classes, findings=findings)


def is_open_images(file: Path) -> bool:
    """Whether a CSV file has Open Images' columns."""
    if file.name.startswith("."):
        return False
    with file.open("rb") as stream:
        header = stream.readline(4096).decode("utf-8-sig", "replace")
    return set(_COLUMNS) <= {word.strip().strip('"') for word in header.split(",")}


def _split(folder: Path, name: str, file: Path) -> Split:
    return named_split(
        lambda: read_open_images(file, folder, name), lambda: None, name, lambda: [file, *_described(folder, file)]
    )


def _name(folder: Path, file: Path) -> str:
    """`oidv6-train-annotations-bbox.csv` is train; FiftyOne's `train/labels/detections.csv` as well."""
    words = [*re.split(r"[^a-z]+", file.stem.lower()), *(part.lower() for part in file.relative_to(folder).parts[:-1])]
    known = [word for word in words if meaning(word)]
    return known[0] if known else ALL if file.stem == "detections" else file.stem


def _rows(file: Path) -> Iterator[dict[str, str]]:
    try:
        with file.open(encoding="utf-8-sig", newline="") as stream:
            rows = csv.DictReader(stream)
            rows.fieldnames = [name.strip() for name in rows.fieldnames or ()]
            yield from rows
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{file}: not a CSV file in UTF-8: {error}", "restore the file") from None
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None


def _descriptions(folder: Path, file: Path) -> dict[str, str]:
    """Readable names of the classes by their codes."""
    for found in _described(folder, file):
        with found.open(encoding="utf-8-sig", newline="") as stream:
            return {row[0]: row[1] for row in csv.reader(stream) if len(row) == 2 and row[0] != "LabelName"}
    return {}


def _described(folder: Path, file: Path) -> list[Path]:
    """Files of the classes' names; the first one counts."""
    places = (folder, file.parent, file.parent.parent)
    named = (
        found
        for place in places
        for found in (*sorted(place.glob("*class-descriptions*.csv")), place / "metadata" / "classes.csv")
    )
    return [found for found in named if found.is_file()]


OPEN_IMAGES = Format(
    "Open Images",
    "*-annotations-bbox.csv",
    open_images_splits,
    suffixes=(".csv",),
    file="Open Images' boxes (.csv)",
    file_splits=open_images_file_splits,
    recognises=is_open_images,
)
