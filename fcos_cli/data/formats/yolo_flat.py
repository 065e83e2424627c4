"""YOLO label files beside their images, as labelImg writes them: `a.jpg`, `a.txt` and `classes.txt` in one folder.

Source: labelImg's `libs/yolo_io.py`. The folders of splits (`train/a.jpg`, `train/a.txt`) are read as well.
"""

import re
from pathlib import Path

from fcos_cli.data.formats.format import Format
from fcos_cli.data.formats.named import folders_of_splits, named_split, title
from fcos_cli.data.formats.splits import (
    CLASS_FILES,
    ClassNamesMissingError,
    Split,
    class_file_beside,
    class_names_beside,
)
from fcos_cli.data.formats.yolo import label_files, read_yolo
from fcos_cli.data.image_names import is_image_name, natural_key
from fcos_cli.data.records import Categories, DetectionData

_LOOKED_AT = 50
_LABEL = re.compile(rb"\s*\d+(\.0*)?(\s+-?[\d.]+(e-?\d+)?){4,}\s", re.IGNORECASE)


def yolo_flat_splits(folder: Path) -> dict[str, Split]:
    """The splits of a folder whose label files lie beside the images."""
    places = folders_of_splits(folder, _holds_pairs)
    return {name: _split(folder, name, inside) for name, inside in places.items()}


def _split(folder: Path, split: str, places: list[Path]) -> Split:
    def images() -> list[Path]:
        return [path for place in places for path in _images(place)]

    def read() -> DetectionData:
        names = class_names_beside(folder, *places, folder.parent)
        if names is None:
            raise ClassNamesMissingError(
                f"{folder}: YOLO label files without class names",
                f"write them, one a line, to {folder / 'classes.txt'}",
            )
        categories = Categories(tuple(range(len(names))), tuple(names))
        return read_yolo(folder, images(), categories, title(folder, split))

    def files() -> list[Path]:
        classes = class_file_beside(folder, *places, folder.parent)
        return [*label_files(images()), *([classes] if classes else [])]

    return named_split(read, lambda: len(images()), split, files)


def _images(folder: Path) -> list[Path]:
    inside = [path for path in folder.iterdir() if is_image_name(path.name)]
    return sorted(inside, key=lambda path: natural_key(path.name))


def _holds_pairs(folder: Path) -> bool:
    """Whether a label file lies beside an image: by names, and by a first line that is a class and numbers."""
    stems = {path.stem for path in folder.iterdir() if is_image_name(path.name)}
    files = (file for file in sorted(folder.glob("*.txt")) if file.stem in stems and file.name not in CLASS_FILES)
    for _, file in zip(range(_LOOKED_AT), files, strict=False):
        with file.open("rb") as stream:
            head = stream.read(4096).removeprefix(b"\xef\xbb\xbf")
        if head.strip():
            return _LABEL.match(head + b"\n") is not None
    return False


YOLO_FLAT = Format("YOLO", "*.txt beside the images, and classes.txt", yolo_flat_splits)
