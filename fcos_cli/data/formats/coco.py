"""COCO's data sets: the layouts of their folders, and a file as a data set.

Source: cocodataset.org/#format-data.
"""

import os
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import numpy as np

from fcos_cli.data.findings import Findings, Kind, Weight
from fcos_cli.data.formats.assemble import NO_SIZE, assemble
from fcos_cli.data.formats.coco_file import (
    CocoAnnotation,
    CocoCategory,
    CocoImage,
    count_images,
    load_coco,
    looks_like_coco,
)
from fcos_cli.data.formats.finding import located
from fcos_cli.data.formats.format import Format
from fcos_cli.data.formats.splits import ALL, Split
from fcos_cli.data.images import LARGEST_SIDE, image_sizes
from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.errors import DataError

T = TypeVar("T", CocoImage, CocoCategory)
LARGEST_ID = 1 << 53
NO_SUCH_IMAGE = Kind("annotations of an image_id that `images` does not list", boxes=True)
NO_SUCH_CLASS = Kind("annotations of a category_id that `categories` does not list", boxes=True)
TWICE = Kind("entries of images or categories that come twice and say the same, taken once", Weight.NOTE)
SAME_ID = Kind(
    "annotation ids that are used more than once; all boxes are kept, and numbered from 1 "
    "(merged files? the same boxes twice?)"
)
_QUICK_TO_COUNT = 64 << 20
_PROBES = 10


def read_coco(
    annotation_file: str | Path,
    image_root: str | Path | None = None,
    name: str | None = None,
    below: Path | None = None,
) -> DetectionData:
    """A COCO annotation file as a data set.

    Boxes keep the annotated coordinates, also where they pass the image's border. A missing area is w * h. Annotation
    ids are kept where all are present, positive and unique, else the boxes are numbered from 1. A file without
    `annotations` (image_info_test2017.json) gives an unannotated data set.

    Found, and left out: boxes without area or with coordinates that are missing or no numbers; annotations of an image
    or a category that the file does not list; entries without an id.

    Args:
        annotation_file: the JSON file.
        image_root: folder that `file_name` is relative to; None looks in the usual places around the file.
        name: what to call the data set; None takes the file's name.
        below: the folder of the data set, in which images are searched for that are not in their place.

    Raises:
        DataError: the file is missing, cut off, not JSON or not COCO's shape; two images or categories have one id.
    """
    path = Path(annotation_file)
    found = Findings()
    content = load_coco(path, found)
    images = _once(content.images, lambda a, b: a.file_name == b.file_name, "image", found)
    classes = _once(content.categories, lambda a, b: a.name == b.name, "category", found)
    image_ids = _ids(path, "image", [image.id for image in images])
    _ids(path, "category", [category.id for category in classes])
    categories = Categories.from_pairs((category.id, category.name) for category in classes)
    file_names = [image.file_name.replace("\\", "/") for image in images]
    root = Path(image_root) if image_root is not None else find_image_root(path, file_names)
    root, file_names = located(root, file_names, below or _searched(path.parent), found)
    sizes = _sizes(images, found)
    unknown = np.flatnonzero((sizes <= 0).any(axis=1))
    if unknown.size:
        sizes[unknown] = image_sizes([root / file_names[i] for i in unknown])

    annotations = content.annotations or []
    image_index = _positions([a.image_id for a in annotations], image_ids)
    labels = _positions([a.category_id for a in annotations], np.array(categories.ids, np.int64))
    listed = (image_index >= 0) & (labels >= 0)
    if not listed.all():
        for row in np.flatnonzero(~listed).tolist():
            lost = annotations[row]
            kind, what = (NO_SUCH_IMAGE, lost.image_id) if image_index[row] < 0 else (NO_SUCH_CLASS, lost.category_id)
            found.add(kind, f"annotation {row + 1 if lost.id is None else lost.id}: {what}")
        annotations = [annotation for annotation, kept in zip(annotations, listed, strict=True) if kept]
        image_index, labels = image_index[listed], labels[listed]
    boxes = _boxes(annotations)
    areas = np.array([a.area for a in annotations], dtype=np.float64)
    with np.errstate(over="ignore"):
        areas = np.where(np.isfinite(areas), areas, boxes[:, 2] * boxes[:, 3])
        boxes[:, 2:] += boxes[:, :2]
    _repeated_ids(annotations, found)
    return assemble(
        name=name or path.stem,
        categories=categories,
        root=root,
        image_ids=image_ids,
        file_names=file_names,
        sizes=sizes,
        image_index=image_index,
        boxes=boxes,
        labels=labels,
        crowd=np.array([bool(a.iscrowd) for a in annotations], dtype=bool),
        areas=areas,
        box_ids=_box_ids(annotations),
        annotated=content.annotations is not None,
        findings=found,
        where=lambda row: f"annotation {annotations[row].id if annotations[row].id is not None else row + 1}",
    )


def coco_splits(folder: Path) -> dict[str, Split]:
    """The COCO files of a folder: `annotations/*.json`, or one file in each split's folder as Roboflow writes them."""
    listed = [
        file for file in _detection_files(folder / "annotations") if _is_named_coco(file) or looks_like_coco(file)
    ]
    files = {re.sub(r"^(instances|image_info)_", "", file.stem): file for file in listed}
    if not files:
        files = {file.parent.name: file for file in sorted(folder.glob("*/_annotations.coco.json"))}
    if not files:
        # `fcos predict` leaves PREDS.images.json, a list of images, perhaps in their own folder: no data set.
        listed = [file for file in _detection_files(folder) if not file.name.endswith(".images.json")]
        files = {file.stem: file for file in listed if looks_like_coco(file)}
    return {
        name: coco_split(file, f"{folder.name} {name}", _searched(folder), any_name=name == ALL)
        for name, file in files.items()
    }


def coco_split(file: Path, name: str, below: Path | None = None, *, any_name: bool = False) -> Split:
    """One COCO file as a split that is read when it is opened; `below` as in `read_coco`."""
    return Split(
        lambda: read_coco(file, name=name, below=below),
        lambda: _count(file),
        any_name=any_name,
        files=lambda: [file],
    )


def find_image_root(annotation_file: Path, file_names: Sequence[str]) -> Path:
    """The folder near an annotation file that holds its images; the file's own folder where none is found.

    Of several the one with most of the images, of these the nearest: in the file's own folder rather than beside it.
    """
    here = annotation_file.parent
    split = re.sub(r"^(instances|image_info)_", "", annotation_file.stem)
    short = re.sub(r"\d{4}$", "", split)
    inner = (split, f"images/{split}", short, f"images/{short}", f"{short}/images", "images", "JPEGImages")
    places = [here, *(here / name for name in inner), *(here.parent / name for name in inner), here.parent]
    step = max(1, len(file_names) // _PROBES)
    probes = {*file_names[::step], *file_names[-1:]}
    return max(places, key=lambda place: sum(os.path.isfile(place / probe) for probe in probes))


def _searched(here: Path) -> Path:
    """The folder of the data set whose annotation files lie here: this one, or the one above `annotations`."""
    return here.parent if here.name.lower() in ("annotations", "annotation", "annots", "labels", "json") else here


def _is_named_coco(file: Path) -> bool:
    return file.name.startswith(("instances_", "image_info_"))


def _detection_files(folder: Path) -> list[Path]:
    files = [
        file for file in sorted(folder.glob("*.json")) if not re.match(r"captions_|panoptic_|stuff_|\.", file.name)
    ]
    wanted = [file for file in files if re.match(r"instances_|image_info_", file.name)]
    return wanted or [file for file in files if not file.name.startswith("person_keypoints_")]


def _count(file: Path) -> int | None:
    """Images of a file, or None where counting them would take long."""
    return count_images(file) if file.stat().st_size <= _QUICK_TO_COUNT else None


def _once(entries: Sequence[T], same: Callable[[T, T], bool], what: str, findings: Findings) -> list[T]:
    """The entries without those that say the same as an earlier one of their id."""
    first: dict[int, T] = {}
    kept = []
    for entry in entries:
        earlier = first.setdefault(entry.id, entry)
        if earlier is entry or not same(earlier, entry):
            kept.append(entry)
        else:
            findings.add(TWICE, f"{what} {entry.id}")
    return kept


def _sizes(images: Sequence[CocoImage], findings: Findings) -> np.ndarray:
    """int32 [N, 2]; 0 where a size is missing or none."""
    written = np.array([(image.width or 0, image.height or 0) for image in images], dtype=np.float64).reshape(-1, 2)
    sound = np.asarray(((written >= 0) & (written <= LARGEST_SIDE)).all(axis=1))
    wrong = np.flatnonzero(~sound).tolist()
    findings.add(NO_SIZE, *(f"{images[i].file_name}: {images[i].width} x {images[i].height}" for i in wrong))
    return np.where(sound[:, None], written, 0).astype(np.int32)


def _ids(path: Path, what: str, ids: list[int]) -> np.ndarray:
    if any(not -LARGEST_ID < i < LARGEST_ID for i in ids):
        raise DataError(f"{path}: {what} ids must be below 2^53: {_first(i for i in ids if abs(i) >= LARGEST_ID)}")
    array = np.array(ids, dtype=np.int64)
    values, counts = np.unique(array, return_counts=True)
    if values.size < array.size:
        repeated = values[counts > 1]
        raise DataError(
            f"{path}: {repeated.size} {what} ids are used more than once: {_first(repeated)}",
            f"give every {what} its own id (files that were merged need new ids)",
        )
    return array


def _positions(wanted_ids: list[int], ids: np.ndarray) -> np.ndarray:
    """Where each wanted id stands in `ids`; -1 where it does not."""
    wanted = np.array([i if -LARGEST_ID < i < LARGEST_ID else LARGEST_ID for i in wanted_ids], dtype=np.int64)
    if not ids.size:
        return np.full(wanted.size, -1)
    order = np.argsort(ids)
    places = np.searchsorted(ids, wanted, sorter=order)
    positions = order[np.minimum(places, len(ids) - 1)]
    return np.where(ids[positions] == wanted, positions, -1)


def _boxes(annotations: list[CocoAnnotation]) -> np.ndarray:
    """float64 [B, 4] xywh; NaN where a coordinate is missing."""
    nothing = (None, None, None, None)
    # As float64, None is NaN.
    return np.array([a.bbox or nothing for a in annotations], dtype=np.float64).reshape(-1, 4)


def _box_ids(annotations: list[CocoAnnotation]) -> np.ndarray:
    ids = [a.id for a in annotations]
    numbers = [i for i in ids if i is not None and 0 < i < LARGEST_ID]
    if len(numbers) < len(ids) or len(set(numbers)) < len(numbers):
        return np.arange(1, len(ids) + 1, dtype=np.int64)
    return np.array(numbers, dtype=np.int64)


def _repeated_ids(annotations: list[CocoAnnotation], findings: Findings) -> None:
    counts = Counter(a.id for a in annotations if a.id is not None)
    findings.add(SAME_ID, *(str(number) for number, count in counts.items() if count > 1))


def _first(ids: Iterable[int], limit: int = 5) -> str:
    listed = [str(i) for i in ids]
    return ", ".join(listed[:limit]) + (", ..." if len(listed) > limit else "")


COCO = Format(
    "COCO",
    "annotations/*.json",
    coco_splits,
    suffixes=(".json",),
    file="a COCO annotation file (.json)",
    file_splits=lambda file: {ALL: coco_split(file, file.stem, any_name=True)},
)
