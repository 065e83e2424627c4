"""Pascal VOC data sets: one XML file an image. Source: the VOC 2012 development kit, section 3.

Boxes are taken as written: x0 = xmin, y0 = ymin, x1 = xmax, y1 = ymax. The original VOC counts pixels from 1 and
includes both ends, but the tools that write VOC files today (labelImg, CVAT, Roboflow, BCCD's) store plain corners,
some of them with 0 raised to 1; the difference is below one pixel, and training and evaluation see the same boxes.

Objects marked `difficult` are treated like COCO's crowd: no positives in training, neither hit nor miss in evaluation.
"""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple
from xml.etree import ElementTree

import numpy as np

from fcos_cli.data.findings import Findings, Kind
from fcos_cli.data.formats.assemble import assemble
from fcos_cli.data.formats.format import Format
from fcos_cli.data.formats.splits import ALL, Split, class_file_beside, class_names_beside, read_lines
from fcos_cli.data.image_names import is_image_name, stable_ids
from fcos_cli.data.images import image_sizes
from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.errors import DataError

NO_BOX = Kind("objects without a bndbox", boxes=True)


class _Object(NamedTuple):
    name: str
    box: tuple[float, float, float, float] | None
    difficult: bool


class _Annotation(NamedTuple):
    file_name: str
    size: tuple[int, int]
    objects: list[_Object]


def voc_splits(folder: Path) -> dict[str, Split]:
    """The splits of a folder in VOC's layout, or none where it has another.

    Known layouts: `Annotations/` and `JPEGImages/` with the splits in `ImageSets/Main/<split>.txt` (per-class lists,
    whose lines have two columns, are passed over); XML files beside the images, in the folder itself or in one folder
    a split.
    """
    for annotations in (folder / "Annotations", folder / "annotations"):
        if has_voc_files(annotations):
            return _listed_splits(folder, annotations)
    if has_voc_files(folder):
        return {ALL: _split(folder.name, folder, folder, [folder], None)}
    folders = [inner for inner in sorted(folder.iterdir()) if inner.is_dir() and has_voc_files(inner)]
    return {inner.name: _split(f"{folder.name} {inner.name}", folder, inner, folders, None) for inner in folders}


def read_voc(
    files: Sequence[Path],
    image_folder: Path,
    *,
    all_files: Sequence[Path],
    classes: Sequence[str] | None = None,
    name: str = "",
) -> DetectionData:
    """Pascal VOC files as a data set.

    Boxes with a side of zero or less, boxes that are not finite and objects without `bndbox` are left out and found.

    Args:
        files: the XML files of the images of this split.
        image_folder: where the images are. An image is found by the XML file's own name with any image extension, else
            by `<filename>`.
        all_files: the XML files of every split. Class names are the sorted names of all of them, ids from 1, so that
            labels do not depend on the split; image ids (`stable_ids` of the XML files' names) are unique among them.
        classes: the class names in their order, where a file gives them; then `all_files` are not read for classes.

    Raises:
        DataError: a file is missing, not XML, not Pascal VOC, or has a class that `classes` lacks.
    """
    _require(files, name)
    everything = list(dict.fromkeys([*files, *all_files]))
    parsed = {file: _parse(file) for file in (files if classes is not None else everything)}
    if classes is None:
        classes = sorted({item.name for annotation in parsed.values() for item in annotation.objects})
    label_of = {class_name: label for label, class_name in enumerate(classes)}
    id_of = _image_ids(everything)
    file_names = _image_names(files, parsed, image_folder)

    rows: list[tuple[float, float, float, float]] = []
    labels: list[int] = []
    crowd: list[bool] = []
    image_index: list[int] = []
    places: list[str] = []
    found = Findings()
    for index, file in enumerate(files):
        for number, item in enumerate(parsed[file].objects, start=1):
            if item.name not in label_of:
                raise DataError(
                    f"{file}: class {item.name!r} is not in the list of classes: {', '.join(classes)}",
                    "correct the annotation or add the class to the list",
                )
            if item.box is None:
                found.add(NO_BOX, f"{file.name}, object {number}")
                continue
            places.append(f"{file.name}, object {number}")
            rows.append(item.box)
            labels.append(label_of[item.name])
            crowd.append(item.difficult)
            image_index.append(index)
    sizes = np.array([parsed[file].size for file in files], dtype=np.int32).reshape(-1, 2)
    unknown = np.flatnonzero((sizes <= 0).any(axis=1))
    if unknown.size:
        sizes[unknown] = image_sizes([image_folder / file_names[i] for i in unknown])
    return assemble(
        name=name or image_folder.name,
        categories=Categories(tuple(range(1, len(classes) + 1)), tuple(classes)),
        root=image_folder,
        image_ids=np.array([id_of[file] for file in files], dtype=np.int64),
        file_names=file_names,
        sizes=sizes,
        image_index=np.array(image_index, dtype=np.int64),
        boxes=np.array(rows, dtype=np.float64).reshape(-1, 4),
        labels=np.array(labels, dtype=np.int64),
        crowd=np.array(crowd, dtype=bool),
        findings=found,
        where=lambda row: places[row],
    )


def _image_ids(files: Sequence[Path]) -> dict[Path, int]:
    one_folder = len({file.parent for file in files}) == 1
    names = [file.stem if one_folder else f"{file.parent.name}/{file.stem}" for file in files]
    return dict(zip(files, stable_ids(names).tolist(), strict=True))


def _listed_splits(folder: Path, annotations: Path) -> dict[str, Split]:
    image_folder = next(
        (place for place in (folder / "JPEGImages", folder / "images", folder, annotations) if has_images(place)),
        folder / "JPEGImages",
    )
    lists = [file for file in sorted((folder / "ImageSets" / "Main").glob("*.txt")) if _lists_images(file)]
    if not lists:
        return {ALL: _split(folder.name, folder, image_folder, [annotations], None)}
    return {
        file.stem: _split(f"{folder.name} {file.stem}", folder, image_folder, [annotations], file) for file in lists
    }


def _split(
    name: str, folder: Path, image_folder: Path, annotation_folders: Sequence[Path], listed: Path | None
) -> Split:
    """`listed`: the file that lists the images of the split; None: every XML file of its folder."""
    own = image_folder if image_folder in annotation_folders else annotation_folders[0]

    def files() -> list[Path]:
        if listed is None:
            return sorted(own.glob("*.xml"))
        return [own / f"{_without_extension(line)}.xml" for line in read_lines(listed)]

    def read() -> DetectionData:
        classes = class_names_beside(folder, *annotation_folders)
        everything = [file for place in annotation_folders for file in sorted(place.glob("*.xml"))]
        return read_voc(files(), image_folder, all_files=everything, classes=classes, name=name)

    def taken() -> list[Path]:
        classes = class_file_beside(folder, *annotation_folders)
        lists = (folder / "ImageSets").rglob("*.txt") if listed is not None else ()
        return [*files(), *lists, *([classes] if classes else [])]

    return Split(open=read, count=lambda: len(files()), files=taken)


def _parse(file: Path) -> _Annotation:
    try:
        root = ElementTree.parse(file).getroot()
    # Unknown encodings are LookupError and ValueError.
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        reason = "the file is empty" if file.stat().st_size == 0 else f"not valid XML: {error}"
        raise DataError(f"{file}: {reason}", "restore the annotation file") from None
    except OSError as error:
        raise DataError(f"{file}: {error.strerror}") from None
    if root.tag != "annotation":
        raise DataError(f"{file}: the outer element is <{root.tag}>; a Pascal VOC file has <annotation>")
    objects = []
    for position, item in enumerate(root.findall("object"), start=1):
        where = f"{file}, object {position}"
        name = (item.findtext("name") or "").strip()
        if not name:
            raise DataError(f"{where}: no class name", "give the object a <name>")
        bounds = item.find("bndbox")
        box = None
        if bounds is not None:
            x0, y0, x1, y1 = (_number(bounds.findtext(key), key, where) for key in ("xmin", "ymin", "xmax", "ymax"))
            box = (x0, y0, x1, y1)
        objects.append(_Object(name, box, _is_true(item.findtext("difficult"))))
    width, height = (_number(root.findtext(f"size/{key}") or "0", key, str(file)) for key in ("width", "height"))
    return _Annotation((root.findtext("filename") or "").strip(), (int(width), int(height)), objects)


def _is_true(text: str | None) -> bool:
    """Whether a flag is set; words that mean neither (makesense.ai writes Unspecified) do not set it."""
    word = (text or "").strip().lower()
    return word in ("true", "yes") or (word.isdecimal() and int(word) != 0)


def _number(text: str | None, key: str, where: str) -> float:
    try:
        return float(text or "")
    except ValueError:
        given = f"is {text.strip()!r}, not a number" if text and text.strip() else "is missing"
        raise DataError(f"{where}: {key} {given}", "correct the annotation file") from None


def _require(files: Sequence[Path], name: str) -> None:
    missing = [file for file in files if not file.is_file()]
    if missing:
        shown = ", ".join(file.name for file in missing[:5]) + (", ..." if len(missing) > 5 else "")
        raise DataError(
            f"{name}: {len(missing)} of {len(files)} annotation files are missing in {missing[0].parent}: {shown}",
            "an image without objects needs an XML file without <object>; else take its name out of the split's list",
        )
    if len(set(files)) < len(files):
        twice = next(file for position, file in enumerate(files) if file in files[:position])
        raise DataError(
            f"{name}: {twice.stem} is listed more than once", "remove the repeated line from the split's list"
        )


def _image_names(files: Sequence[Path], parsed: dict[Path, _Annotation], folder: Path) -> list[str]:
    names = {path.name for path in folder.iterdir() if is_image_name(path.name)} if folder.is_dir() else set()
    by_stem: dict[str, list[str]] = {}
    for name in sorted(names):
        by_stem.setdefault(Path(name).stem, []).append(name)
    chosen = []
    for file in files:
        written = Path(parsed[file].file_name.replace("\\", "/")).name
        alike = by_stem.get(file.stem, [])
        if alike and written not in alike:
            chosen.append(alike[0])
        else:
            chosen.append(written if written in names or (written and not alike) else f"{file.stem}.jpg")
    return chosen


def _without_extension(name: str) -> str:
    return str(Path(name).with_suffix("")) if is_image_name(name) else name


def _lists_images(file: Path) -> bool:
    lines = read_lines(file)
    return bool(lines) and len(lines[0].split()) == 1


def has_images(folder: Path) -> bool:
    """Whether a folder holds image files."""
    return folder.is_dir() and any(is_image_name(path.name) for path in folder.iterdir())


def has_voc_files(folder: Path) -> bool:
    """Whether a folder holds Pascal VOC files, by the first XML file."""
    files = (file for file in folder.glob("*.xml") if not file.name.startswith("."))
    first = next(files, None) if folder.is_dir() else None
    if first is None:
        return False
    with first.open("rb") as stream:
        return re.search(rb"<annotation[\s>]", stream.read(4096)) is not None


VOC = Format("Pascal VOC", "Annotations/*.xml", voc_splits)
