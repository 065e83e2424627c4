"""YOLO data sets: one text file an image, `class cx cy w h` as fractions of the upright image, a polygon or keypoints.

Source: the data set pages of Ultralytics' documentation.

Category ids are YOLO's own class numbers, from 0.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from fcos_cli.data.findings import Finding, Findings, Kind
from fcos_cli.data.formats.assemble import UNREADABLE, assemble
from fcos_cli.data.formats.format import Format
from fcos_cli.data.formats.splits import (
    ALL,
    CLASS_FILES,
    ClassNamesMissingError,
    Split,
    class_file_beside,
    class_names_beside,
    read_lines,
)
from fcos_cli.data.formats.splits import read_text as read_label_file
from fcos_cli.data.formats.yolo_index import find_index, read_index, resolve
from fcos_cli.data.formats.yolo_labels import Box, LineKind, kind_of_lines, read_labels
from fcos_cli.data.image_names import is_image_name, natural_key, stable_ids
from fcos_cli.data.images import image_sizes
from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.data.unread import is_text_for_people
from fcos_cli.errors import DataError

NO_SIZE = Kind("boxes of images whose size cannot be read", boxes=True)
NO_LABEL_FILE = Kind("images without a label file, which count as images without objects")
NO_IMAGE = Kind("label files without an image")


def yolo_splits(folder: Path) -> dict[str, Split]:
    """The splits of a folder in YOLO's layout, or none where it has another.

    Known layouts: an index (`data.yaml`) that names the folders or lists of images; `images/<split>/` with
    `labels/<split>/`; `<split>/images/` with `<split>/labels/`; `images/` with `labels/`.

    Raises:
        DataError: its index is not YAML, or has no classes or splits.
    """
    index = find_index(folder)
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
    kind = _kind_of(list(places.values()), folder)
    return {name: _split(folder, name, [place], None, kind) for name, place in places.items()}


def yolo_index_splits(file: Path) -> dict[str, Split]:
    """The splits that an index file (`data.yaml`) names; those that are not there are `lost`.

    Raises:
        DataError: the file is not YAML, has no classes or names no split.
    """
    index = read_index(file)
    by_columns = _kind_of(_flat(index.places), file)

    def kind() -> LineKind:
        return index.kind or by_columns()

    return {
        key: _split(index.base, key, places, index.categories, kind, file, index.found)
        for key, places in index.places.items()
    }


def read_yolo(
    folder: Path,
    images: Sequence[Path],
    categories: Categories,
    name: str = "",
    kind: LineKind = LineKind.POLYGON,
    findings: Findings | None = None,
) -> DetectionData:
    """Images and their label files as a data set.

    The label file of `.../images/a/b.jpg` is `.../labels/a/b.txt`, or else `b.txt` beside the image. A line with more
    than five numbers is of this `kind`: a polygon becomes the box around it, keypoints stand behind their box. Sizes
    come from the images' headers.

    Found, and left out: lines and boxes that cannot be used; images whose label file cannot be read. Found too: images
    without a label file, which stay as images without objects, and label files without an image.
    """
    found = Findings(findings or ())
    kept: list[Path] = []
    boxes: list[Box] = []
    labels: list[int] = []
    places: list[str] = []
    image_index: list[int] = []
    for image in images:
        label_file = _label_file(image)
        try:
            text = read_label_file(label_file) if os.path.isfile(label_file) else None
        except DataError as error:
            found.add(UNREADABLE, error.message)
            continue
        if text is None:
            found.add(NO_LABEL_FILE, _below(folder, image))
        for label, box, place in read_labels(text or "", categories, kind, _below(folder, label_file), found):
            labels.append(label)
            boxes.append(box)
            places.append(place)
            image_index.append(len(kept))
        kept.append(image)
    found.add(NO_IMAGE, *(_below(folder, file) for file in _orphans(images)))
    sizes = image_sizes(kept)
    owners = np.array(image_index, dtype=np.int64)
    xyxy = np.array(boxes, dtype=np.float64).reshape(-1, 4) * sizes[owners][:, [0, 1, 0, 1]]
    sized = (sizes[owners] > 0).all(axis=1)
    found.add(NO_SIZE, *(places[row] for row in np.flatnonzero(~sized)))
    file_names = [_below(folder, image) for image in kept]
    rows = np.flatnonzero(sized)
    return assemble(
        name=name or folder.name,
        categories=categories,
        root=folder,
        image_ids=stable_ids(file_names),
        file_names=file_names,
        sizes=sizes,
        image_index=owners[sized],
        boxes=xyxy[sized],
        labels=np.array(labels, dtype=np.int64)[sized],
        findings=found,
        where=lambda row: places[rows[row]],
    )


def label_files(images: Sequence[Path]) -> list[Path]:
    """The label files of these images, and those beside them that belong to none, which `read_yolo` names."""
    return [*map(_label_file, images), *_orphans(images)]


def _split(
    folder: Path,
    name: str,
    places: Sequence[Path],
    categories: Categories | None,
    kind: Callable[[], LineKind],
    index: Path | None = None,
    shared: tuple[Finding, ...] = (),
) -> Split:
    title = folder.name if name == ALL else f"{folder.name} {name}"
    absent = [place for place in places if not os.path.exists(place)]
    lost = f"{title}: no folder or list of images {absent[0]}" if absent else ""
    class_folders = [] if categories else _class_folders(folder, places)

    def images(found: Findings) -> list[Path]:
        if lost:
            raise DataError(lost, "correct the path in data.yaml")
        return _images_in(places, folder, found)

    def read() -> DetectionData:
        found = Findings()
        listed = images(found)
        return read_yolo(folder, listed, categories or _categories_beside(folder, class_folders), title, kind(), found)

    def files() -> Iterator[Path]:
        named = [index, class_file_beside(*class_folders), *(place for place in places if place.is_file())]
        yield from (file for file in named if file is not None)
        yield from label_files(_images_in(places, folder, Findings()))

    return Split(
        open=read, count=lambda: None if lost else len(images(Findings())), files=files, shared=shared, lost=lost
    )


def _images_in(places: Iterable[Path], base: Path, found: Findings) -> list[Path]:
    """The images of folders, in natural order, and of lists; places that do not exist have none."""
    files: list[Path] = []
    for place in places:
        if place.is_dir():
            inside = [
                Path(folder, name) for folder, _, names in os.walk(place) for name in names if is_image_name(name)
            ]
            files += sorted(inside, key=lambda path: natural_key(path.as_posix()))
        elif place.is_file():
            files += [resolve(line, (place.parent, base), found) for line in read_lines(place)]
    return list(dict.fromkeys(files))


def _kind_of(places: Sequence[Path], where: Path) -> Callable[[], LineKind]:
    """What long lines are, from the columns of all splits, once one is read."""

    @cache
    def kind() -> LineKind:
        images = _images_in(places, where, Findings())
        return kind_of_lines((_label_file(image) for image in images), str(where))

    return kind


def _orphans(images: Iterable[Path]) -> list[Path]:
    """Label files in the folders of these images' labels that no image file belongs to."""
    pictures_in = {image.parent for image in images}
    folders = {(Path(_swap_folder(place)), place) for place in pictures_in} | {(place, place) for place in pictures_in}
    stems: dict[Path, set[str]] = {}
    for labels, pictures in folders:
        inside = {path.stem for path in pictures.iterdir() if is_image_name(path.name)} if pictures.is_dir() else set()
        stems[labels] = stems.get(labels, set()) | inside
    return [
        file
        for labels in sorted(stems)
        if labels.is_dir()
        for file in sorted(labels.glob("*.txt"))
        if file.stem not in stems[labels] and file.name not in CLASS_FILES and not is_text_for_people(file)
        if not file.name.startswith(".")
    ]


def _class_folders(folder: Path, places: Sequence[Path]) -> list[Path]:
    labels = [Path(_swap_folder(place)) for place in places]
    return [folder, *labels, *(place.parent for place in labels)]


def _categories_beside(folder: Path, class_folders: Sequence[Path]) -> Categories:
    names = class_names_beside(*class_folders)
    if names is None:
        raise ClassNamesMissingError(
            f"{folder}: a YOLO data set without class names",
            f"write them, one a line, to {folder / 'classes.txt'}, or write an index, data.yaml, with names: [...]",
        )
    return Categories(tuple(range(len(names))), tuple(names))


def _flat(places: Mapping[str, Sequence[Path]]) -> list[Path]:
    return [place for several in places.values() for place in several]


def _below(folder: Path, file: Path) -> str:
    return Path(os.path.relpath(file, folder)).as_posix()


def _swap_folder(image: Path) -> str:
    parts = list(image.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return os.path.join(*parts)


def _label_file(image: Path) -> Path:
    label_file = Path(_swap_folder(image)).with_suffix(".txt")
    return label_file if os.path.isfile(label_file) else image.with_suffix(".txt")


YOLO = Format(
    "YOLO",
    "data.yaml or images/, labels/",
    yolo_splits,
    suffixes=(".yaml", ".yml"),
    file="a YOLO index (.yaml)",
    file_splits=yolo_index_splits,
)
