"""The classes of other projects' detectors: COCO's 80 in either order of ids, or names that are given."""

from collections.abc import Sequence

from fcos_cli.data.records import Categories
from fcos_cli.errors import UsageError

COCO = {
    1: "person", 2: "bicycle", 3: "car", 4: "motorcycle", 5: "airplane", 6: "bus", 7: "train", 8: "truck", 9: "boat",
    10: "traffic light", 11: "fire hydrant", 13: "stop sign", 14: "parking meter", 15: "bench", 16: "bird", 17: "cat",
    18: "dog", 19: "horse", 20: "sheep", 21: "cow", 22: "elephant", 23: "bear", 24: "zebra", 25: "giraffe",
    27: "backpack", 28: "umbrella", 31: "handbag", 32: "tie", 33: "suitcase", 34: "frisbee", 35: "skis",
    36: "snowboard", 37: "sports ball", 38: "kite", 39: "baseball bat", 40: "baseball glove", 41: "skateboard",
    42: "surfboard", 43: "tennis racket", 44: "bottle", 46: "wine glass", 47: "cup", 48: "fork", 49: "knife",
    50: "spoon", 51: "bowl", 52: "banana", 53: "apple", 54: "sandwich", 55: "orange", 56: "broccoli", 57: "carrot",
    58: "hot dog", 59: "pizza", 60: "donut", 61: "cake", 62: "chair", 63: "couch", 64: "potted plant", 65: "bed",
    67: "dining table", 70: "toilet", 72: "tv", 73: "laptop", 74: "mouse", 75: "remote", 76: "keyboard",
    77: "cell phone", 78: "microwave", 79: "oven", 80: "toaster", 81: "sink", 82: "refrigerator", 84: "book",
    85: "clock", 86: "vase", 87: "scissors", 88: "teddy bear", 89: "hair drier", 90: "toothbrush",
}  # fmt: skip
"""Category id -> name of COCO's 80 classes."""
WITH_ALL_IDS = 91


def classes_of(
    rows: int, names: Sequence[str], *, torchvision: bool = False
) -> tuple[Categories, list[int] | None, str]:
    """The classes of a class layer of so many rows.

    Args:
        rows: of the class layer.
        names: its classes in order, or () where nobody says them.
        torchvision: with 91 rows, each is a category id of COCO; 0 and ten others are of no class.

    Returns:
        The classes, the rows that are theirs (None: all), and what was assumed.

    Raises:
        UsageError: not as many names as rows, or one twice.
    """
    if names:
        if len(names) != rows:
            raise UsageError(
                f"{len(names)} names of classes were given, the detector has {rows}",
                "give as many, one a line: --classes names.txt",
            )
        if len(set(names)) < len(names):
            twice = next(name for name in names if list(names).count(name) > 1)
            raise UsageError(f"the class {twice!r} is named twice", "give every class a name of its own")
        if tuple(names) == tuple(COCO.values()):
            return Categories(tuple(COCO), tuple(COCO.values())), None, ""
        return Categories(tuple(range(1, rows + 1)), tuple(names)), None, ""
    if torchvision and rows == WITH_ALL_IDS:
        note = f"{rows - len(COCO)} of {rows} rows of the class layer are ids that COCO does not use: left out"
        return Categories(tuple(COCO), tuple(COCO.values())), list(COCO), note
    if rows == len(COCO):
        return Categories(tuple(COCO), tuple(COCO.values())), None, "80 classes: COCO's, in their order"
    unnamed = _unnamed(rows)
    return (
        Categories(tuple(range(1, rows + 1)), unnamed),
        None,
        (f"the file does not name its {rows} classes: give them with --classes names.txt, one a line"),
    )


def is_unnamed(categories: Categories) -> bool:
    """Whether these are the names of classes that nobody named."""
    return categories.names == _unnamed(len(categories))


def _unnamed(count: int) -> tuple[str, ...]:
    return tuple(f"class {number}" for number in range(1, count + 1))
