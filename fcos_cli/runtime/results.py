"""Detections in a data set's own terms: columns for the evaluation and for the files. Imports no torch."""

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.errors import DataError
from fcos_cli.files import atomic_file

if TYPE_CHECKING:
    from fcos_cli.runtime.predictor import ImageResult

BOX_DECIMALS, SCORE_DECIMALS = 3, 6
UNKNOWN_CATEGORY = -1


class Columns(NamedTuple):
    """K detections in a data set's own terms.

    Attributes:
        image_id: int64 [K].
        category_id: int64 [K].
        boxes: float64 [K, 4] x, y, width, height in pixels of the original image, rounded as they are written.
        score: float64 [K], rounded as it is written.
        level: int64 [K], number of the pyramid level, 3 for P3.
        location: int64 [K, 2], x and y of the location in pixels of the network input.
    """

    image_id: np.ndarray
    category_id: np.ndarray
    boxes: np.ndarray
    score: np.ndarray
    level: np.ndarray
    location: np.ndarray

    def as_array(self) -> np.ndarray:
        """float64 [K, 7]: image_id, x, y, w, h, score, category_id, as `evaluation.coco_ap.evaluate` takes them."""
        return np.column_stack([self.image_id, self.boxes, self.score, self.category_id]).astype(np.float64)


def to_columns(result: "ImageResult", category_ids: np.ndarray) -> Columns:
    """The detections of one image; those of classes that the data set lacks are left out.

    Args:
        result: from the predictor.
        category_ids: int64 [C], the data set's id of each of the model's labels (`match_categories`).
    """
    category = category_ids[result.labels]
    known = category != UNKNOWN_CATEGORY
    corners = np.round(result.boxes[known], BOX_DECIMALS)
    sides = np.round(corners[:, 2:] - corners[:, :2], BOX_DECIMALS)
    return Columns(
        image_id=np.full(int(known.sum()), result.image_id, dtype=np.int64),
        category_id=category[known],
        boxes=np.concatenate([corners[:, :2], sides], axis=1),
        score=np.round(result.scores[known], SCORE_DECIMALS),
        level=result.level[known],
        location=result.location[known],
    )


def concatenate(parts: list[Columns]) -> Columns:
    """The columns of many images as one."""
    if not parts:
        none = np.zeros(0, dtype=np.int64)
        return Columns(none, none, np.zeros((0, 4)), np.zeros(0), none, np.zeros((0, 2), dtype=np.int64))
    return Columns(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def match_categories(model: Categories, data: DetectionData) -> tuple[np.ndarray, tuple[str, ...]]:
    """The data set's category id of each of the model's labels: classes are matched by name, ids and order may differ.

    Returns:
        int64 [C], -1 where the data set lacks the class; and the names of those classes.

    Raises:
        DataError: the data set has classes that the model does not know, or names that are not unique.
    """
    if not len(data.categories) or model == data.categories:
        return np.asarray(model.ids, dtype=np.int64), ()
    ours, theirs = _by_name(model, "the model"), _by_name(data.categories, data.name)
    unknown = [name for key, (_, name) in theirs.items() if key not in ours]
    missing = tuple(name for key, (_, name) in ours.items() if key not in theirs)
    if unknown:
        raise DataError(
            f"the model does not know these classes of {data.name}: {_some(unknown)}; "
            f"what it knows besides: {_some(missing) if missing else 'nothing'}",
            "use a model trained on these classes, or rename the data set's categories; "
            "to predict all the same, give `fcos predict` the folder of the images",
        )
    ids = [theirs[_key(name)][0] if _key(name) in theirs else UNKNOWN_CATEGORY for name in model.names]
    return np.asarray(ids, dtype=np.int64), missing


def _key(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


def _by_name(categories: Categories, owner: str) -> dict[str, tuple[int, str]]:
    table: dict[str, tuple[int, str]] = {}
    for category, name in zip(categories.ids, categories.names, strict=True):
        if _key(name) in table:
            raise DataError(
                f"{owner} has two classes called {name!r} (ids {table[_key(name)][0]} and {category})",
                "classes are matched by name: give each its own",
            )
        table[_key(name)] = (category, name)
    return table


def _some(names: tuple[str, ...] | list[str], limit: int = 8) -> str:
    shown = ", ".join(names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")


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
    origin = "" if level is None else f', "level": {level}, "location": {location}'
    return f'{{"image_id": {image_id}, "category_id": {category_id}, "bbox": {box}, "score": {score}{origin}}}'
