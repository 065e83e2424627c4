"""YOLO's index, `data.yaml`: which folders or lists of images the splits are, the classes, what long labels are.

Source: the data set pages of Ultralytics' documentation.
"""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from fcos_cli.data.findings import Finding, Findings, Kind, Weight
from fcos_cli.data.formats.splits import meaning, read_text
from fcos_cli.data.formats.yolo_labels import LineKind
from fcos_cli.data.records import Categories
from fcos_cli.errors import DataError

IGNORED_KEYS = Kind("keys of the index that mean nothing here")
OTHER_KEYS = Kind("keys of the index that are taken for another", Weight.NOTE)
COUNT_OF_NAMES = Kind("numbers of classes (nc) that are not those of the names, which are taken")
MOVED = Kind("paths that do not exist and are taken to mean another", Weight.NOTE)
_MOST_CLASSES = 100_000
_SPLIT_KEYS = ("train", "val", "test")
_KNOWN_KEYS = frozenset(
    {*_SPLIT_KEYS, "path", "names", "nc", "task", "kpt_shape", "kpt_names", "flip_idx", "skeleton", "channels"}
    | {"download", "roboflow", "yaml_file", "description", "author", "license", "version", "date", "docs", "links"}
)
# Names that every data set has: alone they do not say which of its folders is meant.
_COMMON = frozenset({"images", "labels", "data", "dataset", "imgs"})


@dataclass(frozen=True)
class Index:
    """An index file.

    Attributes:
        base: the folder that its paths are relative to.
        places: folders or lists of images by split; they need not exist.
        kind: what long labels are; None where the index does not say.
        found: what is odd in it.
    """

    file: Path
    base: Path
    categories: Categories
    places: dict[str, list[Path]]
    kind: LineKind | None
    found: tuple[Finding, ...]


def find_index(folder: Path) -> Path | None:
    """The index of a folder: data.yaml or dataset.yaml rather than another; None where there is none.

    Raises:
        DataError: the only one there may be is not YAML.
    """
    files = sorted(
        [*folder.glob("*.yaml"), *folder.glob("*.yml")], key=lambda file: (file.stem not in ("data", "dataset"), file)
    )
    broken: DataError | None = None
    for file in files:
        try:
            content = _load(file)
        except DataError as error:
            if file.stem in ("data", "dataset"):
                broken = broken or error
            continue
        if ("names" in content or "nc" in content) and any(meaning(str(key)) for key in content):
            return file
    if broken is not None and "not a YOLO index" not in broken.message:
        raise broken
    return None


def read_index(file: Path) -> Index:
    """An index file, with the places of its splits.

    Raises:
        DataError: the file is not YAML, has no classes or names no split.
    """
    content = _load(file)
    found = Findings()
    base = file.parent / str(content.get("path") or ".")
    if not base.is_dir():
        base = file.parent
    categories = _categories(content, file, found)
    places: dict[str, list[Path]] = {}
    for key, listed in _split_values(content, found).items():
        values = listed if isinstance(listed, list) else [listed]
        places[key] = [resolve(str(value), (base,), found, key) for value in values]
    if not places:
        raise DataError(f"{file}: it names none of {', '.join(_SPLIT_KEYS)}", "add a line such as train: images/train")
    return Index(file, base, categories, places, _kind(content), tuple(found))


def resolve(value: str, bases: tuple[Path, ...], found: Findings, what: str = "") -> Path:
    """A path of an index or list, below the first of `bases` that has it.

    People's indexes come from other machines (`/content/set/train/images`, `..\\train\\images`), name the project's
    folder first, or have one `..` too many, as Roboflow writes it. Then the longest end that exists is meant.
    """
    given = value.replace("\\", "/") if "\\" in value else value
    for base in bases:
        if os.path.exists(base / given):
            return Path(os.path.normpath(base / given))
    for base in bases:
        for end in _ends(given):
            if os.path.exists(base / end):
                found.add(MOVED, f"{what + ': ' if what else ''}{value} -> {end}")
                return Path(os.path.normpath(base / end))
    return Path(os.path.normpath(bases[0] / given))


def _ends(path: str) -> Iterator[str]:
    """Ends of a path, the longest first, without its drive, root and dots."""
    parts = [part for part in path.split("/") if part not in ("", ".", "..") and not part.endswith(":")]
    for start in range(len(parts)):
        if start < len(parts) - 1 or parts[start] not in _COMMON:
            yield "/".join(parts[start:])


def _load(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(read_text(file))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{file}:{mark.line + 1}" if mark else str(file)
        raise DataError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    if not isinstance(content, dict):
        raise DataError(f"{file}: not a YOLO index", "it needs keys such as train, val and names")
    return content


def _split_values(content: Mapping[str, Any], found: Findings) -> dict[str, Any]:
    """What the index gives for train, val and test, also under another spelling such as `valid`."""
    values = {key: content[key] for key in _SPLIT_KEYS if content.get(key)}
    for key, value in content.items():
        known = meaning(key) if isinstance(key, str) else None
        if known is not None and key not in _KNOWN_KEYS and known not in values and isinstance(value, str | list):
            values[known] = value
            found.add(OTHER_KEYS, f"{key}: {known}")
        elif key not in _KNOWN_KEYS:
            found.add(IGNORED_KEYS, str(key))
    return {key: values[key] for key in _SPLIT_KEYS if key in values}


def _categories(content: Mapping[str, Any], file: Path, found: Findings) -> Categories:
    names, count = content.get("names"), content.get("nc")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if names is None and isinstance(count, int) and 0 < count <= _MOST_CLASSES:
        names = {number: f"class {number}" for number in range(count)}
    if isinstance(names, dict):
        names = {int(key) if str(key).isdecimal() else key: name for key, name in names.items()}
    if not isinstance(names, dict) or not names or not all(isinstance(number, int) for number in names):
        raise DataError(
            f"{file}: `names` must list the classes or map class numbers to names", "write names: [cat, dog]"
        )
    if count is not None and count != len(names):
        found.add(COUNT_OF_NAMES, f"nc: {count}, but {len(names)} names")
    return Categories.from_pairs((number, str(name)) for number, name in names.items())


def _kind(content: Mapping[str, Any]) -> LineKind | None:
    if content.get("kpt_shape") or content.get("task") == "pose":
        return LineKind.KEYPOINTS
    return LineKind.POLYGON if content.get("task") in ("segment", "obb") else None
