"""COCO detection files. Only what detection needs is decoded, segmentations are skipped.

Source: cocodataset.org/#format-data.
"""

import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TypeVar

import msgspec
import numpy as np

from fcos_cli.data.findings import Findings, Kind
from fcos_cli.data.formats.assemble import assemble
from fcos_cli.data.formats.format import Format
from fcos_cli.data.formats.splits import ALL, Split
from fcos_cli.data.images import image_sizes
from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.errors import DataError

T = TypeVar("T")
LARGEST_ID = 1 << 53
SAME_ID = Kind(
    "annotation ids that are used more than once; all boxes are kept, and numbered from 1 "
    "(merged files? the same boxes twice?)"
)
_QUICK_TO_COUNT = 64 << 20
_PROBES = 10


class _Image(msgspec.Struct, gc=False):
    id: int
    file_name: str
    width: float | None = None
    height: float | None = None


class _Category(msgspec.Struct, gc=False):
    id: int
    name: str


class _Annotation(msgspec.Struct, gc=False):
    image_id: int
    category_id: int
    bbox: tuple[float | None, float | None, float | None, float | None] | None = None
    id: int | None = None
    area: float | None = None
    iscrowd: int | bool | None = None


class _File(msgspec.Struct, gc=False):
    images: list[_Image]
    categories: list[_Category]
    annotations: list[_Annotation] | None = None


class _Nothing(msgspec.Struct, gc=False):
    pass


class _ImagesOnly(msgspec.Struct, gc=False):
    images: list[_Nothing]


def read_coco(
    annotation_file: str | Path, image_root: str | Path | None = None, name: str | None = None
) -> DetectionData:
    """A COCO annotation file as a data set.

    Boxes keep the annotated coordinates, also where they pass the image's border. Boxes without area and boxes that
    are not finite are left out and found. A missing area is w * h. Annotation ids are kept where all
    are present, positive and unique, else the boxes are numbered from 1. A file without `annotations`
    (image_info_test2017.json) gives an unannotated data set.

    Args:
        annotation_file: the JSON file.
        image_root: folder that `file_name` is relative to; None looks in the usual places around the file.
        name: what to call the data set; None takes the file's name.

    Raises:
        DataError: the file is missing, cut off, not JSON or not COCO's shape; ids are repeated; an annotation points
            to an image or a category that the file does not list.
    """
    path = Path(annotation_file)
    content = _decode(path, _File)
    image_ids = _ids(path, "image", [image.id for image in content.images])
    _ids(path, "category", [category.id for category in content.categories])
    categories = Categories.from_pairs((category.id, category.name) for category in content.categories)
    file_names = [image.file_name.replace("\\", "/") for image in content.images]
    root = Path(image_root) if image_root is not None else find_image_root(path, file_names)
    sizes = np.array([(image.width or 0, image.height or 0) for image in content.images], dtype=np.int32).reshape(-1, 2)
    unknown = np.flatnonzero((sizes <= 0).any(axis=1))
    if unknown.size:
        sizes[unknown] = image_sizes([root / file_names[i] for i in unknown])

    annotations = content.annotations or []
    image_index = _positions(path, "image", [a.image_id for a in annotations], image_ids)
    labels = _positions(path, "category", [a.category_id for a in annotations], np.array(categories.ids, np.int64))
    boxes = _boxes(annotations)
    areas = np.array([a.area for a in annotations], dtype=np.float64)
    with np.errstate(over="ignore"):
        areas = np.where(np.isfinite(areas), areas, boxes[:, 2] * boxes[:, 3])
        boxes[:, 2:] += boxes[:, :2]
    found = Findings()
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
    listed = _detection_files(folder / "annotations")
    files = {re.sub(r"^(instances|image_info)_", "", file.stem): file for file in listed}
    if not files:
        files = {file.parent.name: file for file in sorted(folder.glob("*/_annotations.coco.json"))}
    if not files:
        # `fcos predict` leaves PREDS.images.json, a list of images, perhaps in their own folder: no data set.
        listed = [file for file in _detection_files(folder) if not file.name.endswith(".images.json")]
        files = {file.stem: file for file in listed if looks_like_coco(file)}
    return {name: coco_split(file, f"{folder.name} {name}", any_name=name == ALL) for name, file in files.items()}


def coco_split(file: Path, name: str, *, any_name: bool = False) -> Split:
    """One COCO file as a split that is read when it is opened."""
    return Split(lambda: read_coco(file, name=name), lambda: _count(file), any_name=any_name, files=lambda: [file])


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


def _detection_files(folder: Path) -> list[Path]:
    files = [
        file for file in sorted(folder.glob("*.json")) if not re.match(r"captions_|panoptic_|stuff_|\.", file.name)
    ]
    wanted = [file for file in files if re.match(r"instances_|image_info_", file.name)]
    return wanted or [file for file in files if not file.name.startswith("person_keypoints_")]


def looks_like_coco(file: Path) -> bool:
    """Whether a JSON file may be COCO's, by how it starts."""
    with file.open("rb") as stream:
        head = stream.read(1 << 16).lstrip(b"\xef\xbb\xbf \t\r\n")
    return head.startswith(b"{") and re.search(rb'"(images|annotations|categories)"\s*:\s*\[', head) is not None


def _count(file: Path) -> int | None:
    """Images of a file, or None where counting them would take long."""
    return len(_decode(file, _ImagesOnly).images) if file.stat().st_size <= _QUICK_TO_COUNT else None


def _decode(path: Path, kind: type[T]) -> T:
    try:
        raw = path.read_bytes().removeprefix(b"\xef\xbb\xbf")
    except FileNotFoundError:
        raise DataError(
            f"{path}: no such file", "give a COCO annotation file, such as annotations/instances_val2017.json"
        ) from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
    start = raw[:256].lstrip()
    if not start:
        raise DataError(f"{path}: the file is empty", "copy or download it again")
    if start.startswith(b"["):
        raise DataError(
            f"{path}: a list, as predictions are; a COCO annotation file is an object with images and annotations",
            f"to score predictions: fcos eval --predictions {path.name} --data ANNOTATIONS",
        )
    try:
        return _decode_json(raw, kind)
    except msgspec.ValidationError as error:
        raise DataError(
            f"{path}: not a COCO detection file: {error}",
            "ids must be integers; an image needs id and file_name, a category id and name, an annotation image_id, "
            "category_id and bbox [x, y, w, h]; of COCO's own files take instances_*.json",
        ) from None
    except (msgspec.DecodeError, ValueError) as error:
        cut = "truncated" in str(error)
        reason = "the file ends in the middle" if cut else f"not valid JSON: {error}"
        raise DataError(f"{path}: {reason}", "copy or download it again") from None


def _decode_json(raw: bytes, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError:
        raise
    except msgspec.DecodeError:
        # Python's json writes NaN and Infinity, which JSON does not know; its reader takes them back, slowly.
        if b"NaN" not in raw and b"Infinity" not in raw:
            raise
        return msgspec.convert(json.loads(raw), kind)


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


def _positions(path: Path, what: str, wanted_ids: list[int], ids: np.ndarray) -> np.ndarray:
    """Where each wanted id stands in `ids`."""
    if any(not -LARGEST_ID < i < LARGEST_ID for i in wanted_ids):
        raise DataError(
            f"{path}: an annotation has the {what}_id {_first(i for i in wanted_ids if abs(i) >= LARGEST_ID)}"
        )
    wanted = np.array(wanted_ids, dtype=np.int64)
    order = np.argsort(ids)
    places = np.searchsorted(ids, wanted, sorter=order)
    positions = order[np.minimum(places, max(len(ids) - 1, 0))] if ids.size else np.zeros_like(wanted)
    wrong = ids[positions] != wanted if ids.size else np.ones(wanted.size, dtype=bool)
    if wrong.any():
        unknown = np.unique(wanted[wrong])
        listed = f"`{'images' if what == 'image' else 'categories'}`"
        raise DataError(
            f"{path}: {int(wrong.sum())} annotations have a {what}_id that {listed} does not list: {_first(unknown)}",
            f"add the missing entries to {listed} or remove these annotations",
        )
    return positions


def _boxes(annotations: list[_Annotation]) -> np.ndarray:
    """float64 [B, 4] xywh; NaN where a coordinate is missing."""
    nothing = (None, None, None, None)
    # As float64, None is NaN.
    return np.array([a.bbox or nothing for a in annotations], dtype=np.float64).reshape(-1, 4)


def _box_ids(annotations: list[_Annotation]) -> np.ndarray:
    ids = [a.id for a in annotations]
    numbers = [i for i in ids if i is not None and 0 < i < LARGEST_ID]
    if len(numbers) < len(ids) or len(set(numbers)) < len(numbers):
        return np.arange(1, len(ids) + 1, dtype=np.int64)
    return np.array(numbers, dtype=np.int64)


def _repeated_ids(annotations: list[_Annotation], findings: Findings) -> None:
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
