"""COCO result lists: read, written, and held to the ids and values of a data set."""

from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np

from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError
from fcos_cli.files import atomic_file

RESULT_COLUMNS = 7  # image_id, x, y, w, h, score, category_id
BOX_DECIMALS, SCORE_DECIMALS = 3, 6
SCORE_STEP = 1e-6
"""Between scores as they are written."""
_EXACT_IN_FLOAT64 = 2**53
_SHAPE = '[{"image_id": 1, "category_id": 1, "bbox": [x, y, width, height], "score": 0.5}, ...]'
_LOCATED_SHAPE = _SHAPE.replace("}", ', "level": 3, "location": [x, y]}')


class LocatedResults(NamedTuple):
    """K detections and where they came from.

    Attributes:
        results: float64 [K, 7]: image_id, x, y, w, h (pixels of the original image), score, category_id.
        level: int64 [K], number of the pyramid level, 3 for P3.
        location: int64 [K, 2], x and y of the location in pixels of the network input.
    """

    results: np.ndarray
    level: np.ndarray
    location: np.ndarray


def load_results(path: str | Path) -> np.ndarray:
    """Reads a COCO result list.

    Returns:
        float64 [K, 7]: image_id, x, y, w, h (pixels of the original image), score, category_id.

    Raises:
        DataError: no such file, not JSON, cut off, not a list, keys missing, values that are not finite.
    """
    return _as_array(_decode(Path(path)))


def load_located_results(path: str | Path) -> LocatedResults:
    """Reads a COCO result list whose entries say where they came from: `fcos predict --locations` writes it.

    Raises:
        DataError: as `load_results`; entries without `level` or `location`.
    """
    rows = _decode(Path(path), located=True)
    return LocatedResults(
        _as_array(rows),
        np.array([row.level for row in rows], dtype=np.int64),
        np.array([row.location for row in rows], dtype=np.int64).reshape(-1, 2),
    )


def write_results(path: str | Path, results: np.ndarray) -> None:
    """Write detections [K, 7] (image_id, x, y, w, h, score, category_id) as a COCO result list.

    Raises:
        OSError: the file cannot be written.
    """
    with atomic_file(path) as file:
        for row, (image, *box, score, category) in enumerate(results.tolist()):
            file.write(b",\n" if row else b"[\n")
            file.write(coco_entry(int(image), int(category), box, score).encode())
        file.write(b"\n]\n" if len(results) else b"[]\n")


def coco_entry(
    image_id: int,
    category_id: int,
    box: list[float],
    score: float,
    level: int | None = None,
    location: list[int] | None = None,
) -> str:
    """One entry of a COCO result list; with a level and a location, where the detection came from."""
    # By hand, as Python writes floats: msgspec writes 1e-06 as 1e-6, and the bytes of a result are not to change.
    origin = "" if level is None else f', "level": {level}, "location": {location}'
    return f'{{"image_id": {image_id}, "category_id": {category_id}, "bbox": {box}, "score": {score}{origin}}}'


def _decode(path: Path, *, located: bool = False) -> list[Any]:
    """The entries as objects with COCO's keys as attributes, and where `located` with level and location."""
    import msgspec

    shape = _LOCATED_SHAPE if located else _SHAPE
    command = f"fcos predict DATA --out {path}" + (" --locations" if located else "")
    try:
        text = path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"there is no prediction file {path}", f"write one with `{command}`") from None
    except OSError as error:
        raise DataError(f"the prediction file {path} cannot be read: {error.strerror}") from error

    class Result(msgspec.Struct, gc=False):
        image_id: int
        category_id: int
        bbox: tuple[float, float, float, float]
        score: float

    pixel = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]

    class Located(Result, gc=False):
        level: pixel
        location: tuple[pixel, pixel]

    try:
        rows: list[Any] = msgspec.json.decode(text, type=list[Located] if located else list[Result])
    except msgspec.ValidationError as error:
        raise _wrong_content(path, text, str(error), shape, command) from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _not_json(path, text, str(error)) from None
    if any(max(abs(row.image_id), abs(row.category_id)) > _EXACT_IN_FLOAT64 for row in rows):
        raise DataError(f"{path} has ids above 2^53, which cannot be told apart", "renumber the images of the data set")
    return rows


def _as_array(rows: list[Any]) -> np.ndarray:
    if not rows:
        return np.zeros((0, RESULT_COLUMNS))
    return np.array([(r.image_id, *r.bbox, r.score, r.category_id) for r in rows], dtype=np.float64)


def _wrong_content(path: Path, text: bytes, reason: str, shape: str, command: str) -> DataError:
    if text.lstrip()[:1] == b"{":
        hint = f"a COCO result list looks like {shape}"
        if b'"annotations"' in text:
            hint = f"this looks like an annotation file: pass it with --data; {hint}"
        return DataError(f"the prediction file {path} holds an object, not a list of results", hint)
    # msgspec ends with the place: "Object missing required field `score` - at `$[12]`".
    if any(f"missing required field `{key}`" in reason for key in ("level", "location")):
        return DataError(
            f"the prediction file {path} does not say where its detections came from: {reason}",
            f"write it with `{command}`",
        )
    return DataError(f"the prediction file {path} has a wrong entry: {reason}", f"every entry must look like {shape}")


def _not_json(path: Path, text: bytes, reason: str) -> DataError:
    if not text.strip():
        return DataError(f"the prediction file {path} is empty", "no detections are written as []")
    if "truncated" in reason:
        return DataError(
            f"the prediction file {path} is cut off after {len(text)} bytes",
            "copy it or run `fcos predict` again",
        )
    if any(word in text for word in (b"NaN", b"Infinity")):
        return DataError(
            f"the prediction file {path} holds values that are not numbers (NaN or Infinity)",
            "the model that wrote it has diverged, or a box was divided by 0: leave such detections out",
        )
    return DataError(f"the prediction file {path} is not JSON: {reason}", f"a COCO result list looks like {_SHAPE}")


def check_results(data: DetectionData, results: np.ndarray) -> None:
    """Holds results [K, 7] to a data set's ids.

    Raises:
        DataError: values that are not finite, negative sides, image or category ids that the data set does not have.
    """
    bad = ~np.isfinite(results).all(axis=1)
    if bad.any():
        raise DataError(
            f"{bad.sum()} of {len(results)} predictions hold NaN or infinity, the first is entry {bad.argmax()}",
            "the model that wrote them has diverged: leave such detections out, or train it again",
        )
    negative = (results[:, 3:5] < 0).any(axis=1)
    if negative.any():
        raise DataError(
            f"{negative.sum()} of {len(results)} boxes have a negative side, the first is entry {negative.argmax()}",
            "boxes are x, y, width, height in pixels",
        )
    _check_images(data, results[:, 0])
    _check_categories(data, results[:, 6])


def _check_images(data: DetectionData, used_ids: np.ndarray) -> None:
    used = np.unique(used_ids)
    unknown = np.setdiff1d(used, data.image_ids)
    if not unknown.size:
        return
    if unknown.size == used.size:
        message = f"none of the {used.size} image ids in the predictions belongs to {data.name}"
    else:
        message = f"{unknown.size} of the {used.size} image ids in the predictions do not belong to {data.name}"
    raise DataError(
        f"{message}: {_some(unknown)}; its {len(data)} images have ids such as {_some(data.image_ids)}",
        "predictions made for another data set or split? Set --data and --split to what `fcos predict` was run on",
    )


def _check_categories(data: DetectionData, used_ids: np.ndarray) -> None:
    used = np.unique(used_ids)
    ids = np.asarray(data.categories.ids, dtype=np.int64)
    unknown = np.setdiff1d(used, ids)
    if not unknown.size:
        return
    count = len(ids)
    share = "none" if unknown.size == used.size else f"only {used.size - unknown.size}"
    message = (
        f"of the {used.size} category ids in the predictions {share} are known to {data.name}: "
        f"unknown {_some(unknown)}; known {_some(ids)}"
    )
    hint = "predictions made for another data set? Write the data set's own category ids"
    if used.min() >= 0 and used.max() < count:
        hint = (
            f"these look like labels 0..{count - 1} (positions in the list of classes): write the data set's own ids, "
            f"the label's entry in {_some(ids)}"
        )
    elif used.min() >= 1 and used.max() <= count:
        hint = f"these look like positions counted from 1: write the data set's own ids, {_some(ids)}"
    raise DataError(message, hint)


def _some(ids: np.ndarray, limit: int = 5) -> str:
    """The first few ids: "1, 2, 3, ..."."""
    shown = ", ".join(f"{value:g}" if value != int(value) else str(int(value)) for value in ids[:limit])
    return shown + (", ..." if len(ids) > limit else "")
