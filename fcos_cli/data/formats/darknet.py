"""Darknet: `obj.data` or `obj.names`, and lists of images (`train.txt`) with their label files beside them.

CVAT exports the same as YOLO 1.1. Source: the read-me of AlexeyAB's darknet; CVAT's page of the format. The paths in
these files count import os
from Darknet's own folder, so leading folders that are not there are left away.
"""

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fcos_cli.data.formats.format import Format
from fcos_cli.data.formats.named import named_split, title
from fcos_cli.data.formats.splits import Split, meaning, read_lines
from fcos_cli.data.formats.yolo import label_files, read_yolo
from fcos_cli.data.image_names import is_image_name
from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.errors import DataError


def darknet_splits(folder: Path) -> dict[str, Split]:
    """The splits of a folder with Darknet's files, in it or in its `data` or `cfg`."""
    for place in (folder, folder / "data", folder / "cfg"):
        for file in sorted(place.glob("*.data")) if place.is_dir() else ():
            if "names" in _keys(file):
                return darknet_file_splits(file, folder)
    names = next((file for file in sorted(folder.glob("*.names")) if not file.name.startswith(".")), None)
    lists = {file.stem: file for file in sorted(folder.glob("*.txt")) if meaning(file.stem) and _lists_images(file)}
    return {} if names is None else {name: _split(folder, name, file, names) for name, file in lists.items()}


def darknet_file_splits(file: Path, base: Path | None = None) -> dict[str, Split]:
    """The splits that an `obj.data` names.

    Args:
        file: the file.
        base: the folder that its paths are looked for in; None: the file's own.

    Raises:
        DataError: the names of the classes, or the lists of images, are missing.
    """
    folder = base or file.parent
    keys = _keys(file)
    names = resolve(folder, keys.get("names", "obj.names"))
    if not names.is_file():
        raise DataError(f"{file}: no file of class names {names}", "correct the line: names = obj.names")
    lists = {key: resolve(folder, value) for key, value in keys.items() if meaning(key)}
    if not lists:
        raise DataError(f"{file}: it names no list of images", "add a line such as: train = train.txt")
    return {name: _split(folder, name, listed, names) for name, listed in lists.items()}


def resolve(folder: Path, value: str) -> Path:
    """A path of Darknet's files: in `folder`, with as few of its leading folders left away as it needs."""
    path = Path(value.strip().replace("\\", "/"))
    if path.is_absolute() and os.path.exists(path):
        return path
    parts = path.parts[1:] if path.is_absolute() else path.parts
    for start in range(len(parts)):
        candidate = folder.joinpath(*parts[start:])
        if os.path.exists(candidate):
            return candidate
    return folder / Path(*parts) if parts else folder


def _split(folder: Path, split: str, listed: Path, names: Path) -> Split:
    def images() -> list[Path]:
        return list(dict.fromkeys(resolve(folder, line) for line in read_lines(listed)))

    def read() -> DetectionData:
        if not listed.is_file():
            raise DataError(f"{title(folder, split)}: no list of images {listed}", "correct its path in the .data file")
        classes = read_lines(names)
        return read_yolo(folder, images(), Categories(tuple(range(len(classes))), tuple(classes)), title(folder, split))

    def files() -> list[Path]:
        return [listed, names, *label_files(images())] if listed.is_file() else [names]

    lost = "" if listed.is_file() else f"{title(folder, split)}: no list of images {listed}"
    opened = named_split(read, lambda: None if lost else len(images()), split, files)
    return replace(opened, lost=lost)


def _keys(file: Path) -> dict[str, str]:
    """`key = value`, one a line."""
    return dict(_pairs(read_lines(file)))


def _pairs(lines: list[str]) -> Iterator[tuple[str, str]]:
    for line in lines:
        key, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            yield key.strip(), value.strip()


def _lists_images(file: Path) -> bool:
    lines = read_lines(file)
    return bool(lines) and is_image_name(lines[0].replace("\\", "/"))


DARKNET = Format(
    "Darknet",
    "obj.data, obj.names and train.txt",
    darknet_splits,
    suffixes=(".data",),
    file="Darknet's obj.data",
    file_splits=darknet_file_splits,
)
