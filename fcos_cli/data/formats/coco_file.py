"""One COCO file, decoded: quickly where it is as COCO writes it, else entry by entry, so that one bad entry is one.

Only what detection needs is decoded, segmentations are skipped. Source: cocodataset.org/#format-data.
"""

import codecs
import difflib
import json
import math
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from fcos_cli.data.findings import Findings, Kind, Weight
from fcos_cli.errors import DataError

T = TypeVar("T")
NO_IMAGE = Kind("entries of `images` without an id or a file_name, left out")
OTHER_NAME = Kind("images whose name is under `filename`, which is taken for `file_name`", Weight.NOTE)
NO_CATEGORY = Kind("entries of `categories` without an id or a name, left out")
NO_IDS = Kind("annotations without an image_id or a category_id", boxes=True)
ODD_IDS = Kind('ids that are not written as whole numbers (1.0, "1") and are read as such', Weight.NOTE)
NO_ANNOTATIONS = Kind("files with categories and without `annotations`, which are read as images without annotations")
MISNAMED = Kind("lists that may be the annotations, under another key than `annotations`: rename it", Weight.ERROR)
_UTF16 = {b"{\0": "utf-16-le", b"[\0": "utf-16-le", b"\0{": "utf-16-be", b"\0[": "utf-16-be"}
_HEAD = 1 << 16


class CocoImage(msgspec.Struct, gc=False):
    """An entry of `images`."""

    id: int
    file_name: str
    width: float | None = None
    height: float | None = None


class CocoCategory(msgspec.Struct, gc=False):
    """An entry of `categories`."""

    id: int
    name: str


class CocoAnnotation(msgspec.Struct, gc=False):
    """An entry of `annotations`; `bbox` is x, y, width, height."""

    image_id: int
    category_id: int
    bbox: tuple[float | None, float | None, float | None, float | None] | None = None
    id: int | None = None
    area: float | None = None
    iscrowd: int | bool | None = None


class CocoFile(msgspec.Struct, gc=False):
    """A file; `annotations` is None where it has none."""

    images: list[CocoImage]
    categories: list[CocoCategory]
    annotations: list[CocoAnnotation] | None = None


class _LooseFile(msgspec.Struct, gc=False):
    images: list[dict[str, Any]]
    categories: list[dict[str, Any]]
    annotations: list[dict[str, Any]] | None = None


class _Nothing(msgspec.Struct, gc=False):
    pass


class _ImagesOnly(msgspec.Struct, gc=False):
    images: list[_Nothing]


def load_coco(path: Path, findings: Findings) -> CocoFile:
    """Decodes a file; entries that cannot be used are left out and found.

    Raises:
        DataError: it is missing, cut off, not JSON or not COCO's shape.
    """
    raw = _raw(path)
    try:
        content = _decode(path, raw, CocoFile)
    except DataError as error:
        try:
            loose = _decode(path, raw, _LooseFile)
        except DataError:
            raise error from None
        content = _strict(loose, findings)
        if loose.images and not content.images:
            raise error from None
    if content.annotations is None:
        keys = [key for key, value in _decode(path, raw, dict[str, msgspec.Raw]).items() if bytes(value)[:1] == b"["]
        near = difflib.get_close_matches("annotations", [key for key in keys if key not in ("images", "categories")])
        findings.add(MISNAMED, *(f"{path.name}: `{key}`" for key in near))
        if content.categories and not near:
            findings.add(NO_ANNOTATIONS, path.name)
    return content


def count_images(path: Path) -> int:
    """How many images a file lists.

    Raises:
        DataError: as `load_coco`.
    """
    return len(_decode(path, _raw(path), _ImagesOnly).images)


def looks_like_coco(file: Path) -> bool:
    """Whether a JSON file may be COCO's, by how it starts."""
    with file.open("rb") as stream:
        head = _utf8(stream.read(_HEAD)).lstrip()
    return head.startswith(b"{") and re.search(rb'"(images|annotations|categories)"\s*:\s*\[', head) is not None


def _raw(path: Path) -> bytes:
    try:
        raw = _utf8(path.read_bytes())
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
    return raw


def _utf8(raw: bytes) -> bytes:
    """JSON as UTF-8 without a mark; Windows' tools write UTF-16, with a mark or without."""
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return raw.decode("utf-16", errors="replace").encode()
    encoding = _UTF16.get(raw[:2])
    return raw.decode(encoding, errors="replace").encode() if encoding else raw.removeprefix(codecs.BOM_UTF8)


def _decode(path: Path, raw: bytes, kind: type[T]) -> T:
    try:
        return _decode_json(raw, kind)
    except msgspec.ValidationError as error:
        raise DataError(
            f"{path}: not a COCO detection file: {error}",
            "ids must be integers; an image needs id and file_name, a category id and name, an annotation image_id, "
            "category_id and bbox [x, y, w, h]; of COCO's own files take instances_*.json",
        ) from None
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
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


def _strict(loose: _LooseFile, findings: Findings) -> CocoFile:
    """Entry by entry, as far as each can be read."""
    images, categories = [], []
    for number, entry in enumerate(loose.images, start=1):
        key, name = _whole(entry.get("id"), "image", findings), entry.get("file_name")
        if name is None and "filename" in entry:
            name = entry["filename"]
            findings.add(OTHER_NAME, str(name))
        if key is None or not isinstance(name, str) or not name:
            findings.add(NO_IMAGE, f"entry {number}")
            continue
        images.append(CocoImage(key, name, _side(entry.get("width")), _side(entry.get("height"))))
    for number, entry in enumerate(loose.categories, start=1):
        key, name = _whole(entry.get("id"), "category", findings), entry.get("name")
        if key is None or not isinstance(name, str | int | float):
            findings.add(NO_CATEGORY, f"entry {number}")
            continue
        categories.append(CocoCategory(key, str(name)))
    if loose.annotations is None:
        return CocoFile(images, categories)
    return CocoFile(images, categories, list(_annotations(loose.annotations, findings)))


def _annotations(entries: list[dict[str, Any]], findings: Findings) -> Iterable[CocoAnnotation]:
    for number, entry in enumerate(entries, start=1):
        own = _whole(entry.get("id"), "annotation", findings)
        image, category = (_whole(entry.get(f"{what}_id"), what, findings) for what in ("image", "category"))
        if image is None or category is None:
            findings.add(NO_IDS, f"annotation {number if own is None else own}")
            continue
        box = entry.get("bbox")
        numbers = [_number(value) for value in box] if isinstance(box, list) and len(box) == 4 else [None] * 4
        crowd = entry.get("iscrowd")
        yield CocoAnnotation(
            image,
            category,
            (numbers[0], numbers[1], numbers[2], numbers[3]),
            own,
            _number(entry.get("area")),
            bool(_number(crowd)) if not isinstance(crowd, bool) else crowd,
        )


def _whole(value: object, what: str, findings: Findings) -> int | None:
    """An id: a whole number, also one that is written as 1.0 or "1"."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if isinstance(value, float) and value.is_integer():
        findings.add(ODD_IDS, f"{what} {value}")
        return int(value)
    if isinstance(value, str) and value.strip().isdecimal():
        findings.add(ODD_IDS, f'{what} "{value}"')
        return int(value)
    return None


def _side(value: object) -> float | None:
    """A width or height: NaN where it is written and none."""
    number = _number(value)
    return math.nan if number is None and value is not None else number


def _number(value: object) -> float | None:
    """A finite number, also one that is written as text."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    try:
        number = float(value)
    except (ValueError, OverflowError):
        return None
    return number if math.isfinite(number) else None
