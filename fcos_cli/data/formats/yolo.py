"""YOLO data sets: one text file an image, `class cx cy w h` as fractions of the upright image, a polygon or keypoints.

Source: the data set pages of Ultralytics' documentation.

Category ids are YOLO's own class numbers, from 0.
"""

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from fcos_cli.data.formats.assemble import assemble
from fcos_cli.data.formats.format import Format
from fcos_cli.data.formats.splits import ALL, Split, class_names_beside, read_lines
from fcos_cli.data.formats.yolo_labels import Box, LineKind, box_of, kind_of_lines, length_fits
from fcos_cli.data.image_names import is_image_name, natural_key, stable_ids
from fcos_cli.data.images import image_sizes
from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.errors import DataError

NO_SIZE = "boxes of images whose size cannot be read"
_TOLERANCE = 0.01
_SPLIT_KEYS = ("train", "val", "test")


def yolo_splits(folder: Path) -> dict[str, Split]:
    """The splits of a folder in YOLO's layout, or none where it has another.

    Known layouts: an index (`data.yaml`) that names the folders or lists of images; `images/<split>/` with
    `labels/<split>/`; `<split>/images/` with `<split>/labels/`; `images/` with `labels/`.
    """
    index = _find_index(folder)
    if index is not None:
        return yolo_index_splits(index)
    places = {}
    if (folder / "images").is_dir() and (folder / "labels").is_dir():
        inner = [path.name for path in sorted((folder / "images").iterdir()) if path.is_dir()]
        places = {name: folder / "images" / name for name in inner if (folder / "labels" / name).is_dir()}
        if not places and next((folder / "labels").glob("*.txt"), None):
            places = {ALL: folder / "images"}
    else:
        inner = [path.name for path in sorted(folder.iterdir()) if (path / "labels").is_dir()]
        places = {name: folder / name / "images" for name in inner if (folder / name / "images").is_dir()}
    kind = _kind_of({}, list(places.values()), str(folder))
    return {name: _split(folder, name, [place], None, kind) for name, place in places.items()}


def yolo_index_splits(index: Path) -> dict[str, Split]:
    """The splits that an index file (`data.yaml`) names.

    Raises:
        DataError: the file is not YAML or names no split.
    """
    content = _load_index(index)
    base = index.parent / str(content.get("path") or ".")
    if not base.is_dir():
        base = index.parent
    categories = _categories(content, index)
    places: dict[str, list[Path]] = {}
    for key in _SPLIT_KEYS:
        listed = content.get(key)
        if not listed:
            continue
        values = listed if isinstance(listed, list) else [listed]
        places[key] = [_place(base, str(value)) for value in values]
    kind = _kind_of(content, [place for several in places.values() for place in several], str(index))
    splits = {key: _split(base, key, several, categories, kind) for key, several in places.items()}
    if not splits:
        raise DataError(f"{index}: it names none of {', '.join(_SPLIT_KEYS)}", "add a line such as train: images/train")
    return splits


def read_yolo(
    folder: Path,
    images: Sequence[Path],
    categories: Categories,
    name: str = "",
    kind: LineKind = LineKind.POLYGON,
) -> DetectionData:
    """Images and their label files as a data set.

    The label file of `.../images/a/b.jpg` is `.../labels/a/b.txt`, or else `b.txt` beside the image. No label file:
    no objects. A line with more than five numbers is of this `kind`: a polygon becomes the box around it, keypoints
    stand behind their box. Boxes without area are left out and counted in `dropped`. Sizes come from the images'
    headers.

    Raises:
        DataError: a label line that is not YOLO's form, is not in fractions, or has a class number that `categories`
            lacks; names the file and the line.
    """
    boxes: list[tuple[float, float, float, float]] = []
    labels: list[int] = []
    counts = np.zeros(len(images), dtype=np.int64)
    for index, image in enumerate(images):
        label_file = _label_file(image)
        if not label_file.is_file():
            continue
        before = len(boxes)
        for line_number, line in enumerate(_lines(label_file), start=1):
            if line.strip():
                label, box = _parse(line, categories, kind, f"{label_file}:{line_number}")
                labels.append(label)
                boxes.append(box)
        counts[index] = len(boxes) - before
    sizes = image_sizes(images)
    image_index = np.repeat(np.arange(len(images)), counts)
    xyxy = np.array(boxes, dtype=np.float64).reshape(-1, 4) * sizes[image_index][:, [0, 1, 0, 1]]
    sized = (sizes[image_index] > 0).all(axis=1)
    file_names = [Path(os.path.relpath(image, folder)).as_posix() for image in images]
    return assemble(
        name=name or folder.name,
        categories=categories,
        root=folder,
        image_ids=stable_ids(file_names),
        file_names=file_names,
        sizes=sizes,
        image_index=image_index[sized],
        boxes=xyxy[sized],
        labels=np.array(labels, dtype=np.int64)[sized],
        dropped={NO_SIZE: int((~sized).sum())},
    )


def _split(
    folder: Path,
    name: str,
    places: Sequence[Path],
    categories: Categories | None,
    kind: Callable[[], LineKind],
) -> Split:
    title = folder.name if name == ALL else f"{folder.name} {name}"

    def images() -> list[Path]:
        for place in places:
            if not place.exists():
                raise DataError(f"{title}: no folder or list of images {place}", "correct the path in data.yaml")
        return _images_in(places)

    def read() -> DetectionData:
        return read_yolo(folder, images(), categories or _categories_beside(folder, places), title, kind())

    return Split(open=read, count=lambda: len(images()) if all(place.exists() for place in places) else None)


def _images_in(places: Iterable[Path]) -> list[Path]:
    """The images of folders, in natural order, and of lists; places that do not exist have none."""
    files: list[Path] = []
    for place in places:
        if place.is_dir():
            inside = [path for path in place.rglob("*") if is_image_name(path.name)]
            files += sorted(inside, key=lambda path: natural_key(path.as_posix()))
        elif place.is_file():
            files += [_place(place.parent, line) for line in read_lines(place)]
    return list(dict.fromkeys(files))


def _kind_of(content: Mapping[str, Any], places: Sequence[Path], where: str) -> Callable[[], LineKind]:
    """What long lines are: as the index says, else from the columns of all splits, once one is read."""

    @cache
    def kind() -> LineKind:
        if content.get("kpt_shape") or content.get("task") == "pose":
            return LineKind.KEYPOINTS
        if content.get("task") in ("segment", "obb"):
            return LineKind.POLYGON
        return kind_of_lines((_label_file(image) for image in _images_in(places)), where)

    return kind


def _find_index(folder: Path) -> Path | None:
    files = sorted(
        [*folder.glob("*.yaml"), *folder.glob("*.yml")], key=lambda file: (file.stem not in ("data", "dataset"), file)
    )
    for file in files:
        try:
            content = _load_index(file)
        except DataError:
            continue
        if "names" in content and any(key in content for key in _SPLIT_KEYS):
            return file
    return None


def _load_index(index: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(index.read_text(encoding="utf-8-sig"))
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{index}:{mark.line + 1}" if mark else str(index)
        raise DataError(f"{where}: not valid YAML: {getattr(error, 'problem', None) or error}") from None
    except UnicodeDecodeError:
        raise DataError(f"{index}: not UTF-8 text", "save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{index}: {error.strerror}") from None
    if not isinstance(content, dict):
        raise DataError(f"{index}: not a YOLO index", "it needs keys such as train, val and names")
    return content


def _categories(content: Mapping[str, Any], index: Path) -> Categories:
    names = content.get("names")
    if isinstance(names, list):
        names = dict(enumerate(names))
    if names is None and isinstance(content.get("nc"), int):
        names = {number: f"class {number}" for number in range(content["nc"])}
    if not isinstance(names, dict) or not names or not all(isinstance(number, int) for number in names):
        raise DataError(
            f"{index}: `names` must list the classes or map class numbers to names", "write names: [cat, dog]"
        )
    return Categories.from_pairs((number, str(name)) for number, name in names.items())


def _categories_beside(folder: Path, places: Sequence[Path]) -> Categories:
    labels = [Path(_swap_folder(place)) for place in places]
    names = class_names_beside(folder, *labels, *(place.parent for place in labels))
    if names is None:
        raise DataError(
            f"{folder}: a YOLO data set without class names",
            f"write them, one a line, to {folder / 'classes.txt'}, or write an index, data.yaml, with names: [...]",
        )
    return Categories(tuple(range(len(names))), tuple(names))


def _place(base: Path, value: str) -> Path:
    """A path of an index or list. Roboflow writes `../train/images` where `train/images` is meant."""
    path = base / value
    if not path.exists() and value.startswith("../") and (base / value[3:]).exists():
        path = base / value[3:]
    return Path(os.path.normpath(path))


def _swap_folder(image: Path) -> str:
    parts = list(image.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return os.path.join(*parts)


def _label_file(image: Path) -> Path:
    label_file = Path(_swap_folder(image)).with_suffix(".txt")
    return label_file if label_file.is_file() else image.with_suffix(".txt")


def _lines(label_file: Path) -> list[str]:
    try:
        return label_file.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise DataError(f"{label_file}: not a text file", "restore the label file") from None
    except OSError as error:
        raise DataError(f"{label_file}: {error.strerror}") from None


def _parse(line: str, categories: Categories, kind: LineKind, where: str) -> tuple[int, Box]:
    """Label and xyxy in fractions of one line."""
    try:
        number, *values = (float(word) for word in line.split())
    except ValueError:
        raise DataError(f"{where}: not numbers: {line.strip()[:60]}", "a line is: class cx cy w h") from None
    if not length_fits(values, kind):
        hint = "a line is: class cx cy w h, or class x1 y1 x2 y2 x3 y3 ... for a polygon"
        more = "; is it a prediction with its score, or a box with its angle?" if len(values) == 5 else ""
        raise DataError(f"{where}: {len(values) + 1} numbers{more}", hint)
    if number not in categories.label_of:
        raise DataError(
            f"{where}: class {number:g} is not among the {len(categories)} classes "
            f"({categories.ids[0]} {categories.names[0]} to {categories.ids[-1]} {categories.names[-1]})",
            "class numbers start at 0: correct the label or the list of names",
        )
    fractions = values[:4] if kind is LineKind.KEYPOINTS else values
    if any(value < -_TOLERANCE or value > 1 + _TOLERANCE for value in fractions):
        raise DataError(
            f"{where}: coordinates beyond 0..1", "YOLO labels are fractions of the image's width and height, not pixels"
        )
    return categories.label_of[int(number)], box_of(values, kind)


YOLO = Format(
    "YOLO",
    "data.yaml or images/, labels/",
    yolo_splits,
    suffixes=(".yaml", ".yml"),
    file="a YOLO index (.yaml)",
    file_splits=yolo_index_splits,
)
