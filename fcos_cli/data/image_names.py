"""Names of image files: which name an image, their natural order, and ids made from them."""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fcos_cli.errors import DataError

IMAGE_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"}
    | {".pnm", ".jp2", ".avif", ".mpo", ".tga"}
)
_HASHED_IDS_FROM = 1 << 40
_ONE_NUMBER_AT_THE_END = re.compile(r"\D*(\d+)", re.ASCII)


def is_image_name(name: str | Path) -> bool:
    """Whether the extension is one of an image format (a dot file is none)."""
    base = os.path.basename(name)
    return not base.startswith(".") and os.path.splitext(base)[1].lower() in IMAGE_EXTENSIONS


def natural_key(name: str) -> list[Any]:
    """Sort key under which image2 comes before image10."""
    parts = re.split(r"(\d+)", name, flags=re.ASCII)
    return [int(part) if position % 2 else part for position, part in enumerate(parts)]


def stable_ids(names: Sequence[str]) -> np.ndarray:
    """Image ids for files that have none; an id does not change when other files come or go.

    A name whose only number stands at its end (`000000000139.jpg`, `cells/frame_12.png`) has that number as its id, as
    COCO does it. Other names, and names that share a number, get a 52-bit hash of the name; hashes start at 2^40,
    longer numbers are hashed too.

    Args:
        names: N distinct names relative to the folder of the images.

    Returns:
        int64 [N], unique, below 2^53 so that they survive JSON readers that know only doubles.
    """
    numbers = [_number(name) for name in names]
    shared = Counter(numbers)
    ids = [
        number if number is not None and shared[number] == 1 else _hashed_id(name)
        for name, number in zip(names, numbers, strict=True)
    ]
    if len(set(ids)) != len(ids):
        twice = (
            next(name for name, count in Counter(names).items() if count > 1) if len(set(names)) < len(names) else ""
        )
        raise DataError(f"two images have the same name: {twice}" if twice else "two image names have the same hash")
    return np.array(ids, dtype=np.int64)


def _number(name: str) -> int | None:
    match = _ONE_NUMBER_AT_THE_END.fullmatch(os.path.splitext(os.path.basename(name))[0])
    number = int(match[1]) if match and len(match[1]) < 20 else None
    return number if number is not None and number < _HASHED_IDS_FROM else None


def _hashed_id(name: str) -> int:
    digest = int.from_bytes(
        hashlib.sha256(name.replace(os.sep, "/").encode(errors="surrogateescape")).digest()[:8], "big"
    )
    return _HASHED_IDS_FROM + digest % ((1 << 52) - _HASHED_IDS_FROM)
