"""Image files: pixels as the person who drew the boxes saw them, sizes from headers, ids for files without any.

Alpha is composited on white, what browsers and annotation tools show. Of an animated file the first frame is read.
16-bit gray is scaled by its full range (65535 -> 255). 32-bit integer and float images have no fixed range: they are
stretched from their smallest to their largest value, unless they hold 16-bit integers or floats within 0..1.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError

IMAGE_EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm", ".pbm"}
    | {".pnm", ".jp2", ".avif", ".mpo", ".tga"}
)
T = TypeVar("T")
_ORIENTATION_TAG = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDES_SWAPPED = frozenset({5, 6, 7, 8})
_HASHED_IDS_FROM = 1 << 40
_ONE_NUMBER_AT_THE_END = re.compile(r"\D*(\d+)", re.ASCII)


def is_image_name(name: str | Path) -> bool:
    """Whether the extension is one of an image format (a dot file is none)."""
    base = os.path.basename(name)
    return not base.startswith(".") and os.path.splitext(base)[1].lower() in IMAGE_EXTENSIONS


def read_image(path: str | Path) -> np.ndarray:
    """Pixels of an image file.

    Returns:
        uint8 [H, W, 3], RGB, C-contiguous, turned upright as its EXIF orientation says.

    Raises:
        DataError: the file is missing, empty, truncated, too large or not an image. Names the file and the reason.
    """
    return _open(Path(path), lambda image: _pixels(image, _orientation(image)))


def upright_pixels(image: Image.Image, what: str = "the image") -> np.ndarray:
    """`read_image` of an image that Pillow has opened already.

    Args:
        image: in any mode.
        what: what to call it in an error.

    Raises:
        DataError: it turns out to be broken as its pixels are decoded.
    """
    try:
        return _pixels(image, _orientation(image))
    # As in `_open`: a broken file makes Pillow's decoders raise nearly anything.
    except Exception as error:
        raise DataError(f"{what}: broken image ({str(error) or type(error).__name__})") from error


def read_from_folder(data: DetectionData, index: int) -> np.ndarray:
    """The `ImageReader` of data sets whose images are files under `data.root`.

    An image with an EXIF rotation whose annotated size is that of the stored pixels was annotated without the
    rotation, and is left as it is stored.

    Raises:
        DataError: as `read_image`; and where the annotated size is neither the upright nor the stored one.
    """
    return _open(data.path(index), lambda image: _pixels(image, _orientation_in(data, index, image)))


def read_resized(
    data: DetectionData, index: int, choose: Callable[[int, int], tuple[int, int]], *, draft: bool = False
) -> tuple[np.ndarray, tuple[int, int]]:
    """What `read_from_folder` gives, resized (bilinear, antialiased) while it still is Pillow's: two copies less.

    Args:
        data: a data set whose images are files.
        index: of the image.
        choose: upright width and height of the file -> those to resize to.
        draft: let the JPEG decoder halve, quarter or take an eighth of both sides, where what it gives is still at
            least as large as what is asked for. Several times quicker for photographs of many megapixels, and never
            used for an image of less than twice the size asked for. The pixels differ a little from those of a whole
            decoding.

    Returns:
        uint8 [H, W, 3], RGB, C-contiguous; and the upright (width, height) of the file.

    Raises:
        DataError: as `read_from_folder`.
    """

    def pixels(image: Image.Image) -> tuple[np.ndarray, tuple[int, int]]:
        orientation = _orientation_in(data, index, image)
        size = _upright_size(image, orientation)
        target = choose(*size)
        if draft:
            # Only JPEG files know it; it takes the largest reduction that is no smaller than this in both sides.
            image.draft(None, target[::-1] if orientation in _SIDES_SWAPPED else target)
        upright = _upright(image, orientation)
        if upright.size != target:
            upright = upright.resize(target, Image.Resampling.BILINEAR)
        return np.array(upright, dtype=np.uint8, order="C"), size

    return _open(data.path(index), pixels)


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height of an image file, upright, from its header alone.

    Raises:
        DataError: the file is missing, empty or not an image.
    """
    return _open(Path(path), lambda image: _upright_size(image, _orientation(image)))


def image_sizes(paths: Sequence[Path]) -> np.ndarray:
    """int32 [N, 2] upright width and height of the files; 0 where one cannot be read (reading it says why)."""

    def size(path: Path) -> tuple[int, int]:
        try:
            return image_size(path)
        except DataError:
            return 0, 0

    with ThreadPoolExecutor(max_workers=threads()) as pool:
        return np.array(list(pool.map(size, paths)), dtype=np.int32).reshape(-1, 2)


def threads() -> int:
    """Threads worth starting for reading files: the cores this process may use, at most 16."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(16, available)


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


def _open(path: Path, use: Callable[[Image.Image], T]) -> T:
    """What `use` makes of the opened file; every way a file can be broken becomes a DataError."""
    try:
        with Image.open(path) as image:
            return use(image)
    except DataError:
        raise
    except UnidentifiedImageError:
        reason = "the file is empty" if path.stat().st_size == 0 else "not an image, or of a format Pillow cannot read"
    except FileNotFoundError:
        raise DataError(f"{path}: no such image", f"is {path.parent} the folder of the images?") from None
    except IsADirectoryError:
        reason = "a folder, not an image"
    except PermissionError:
        reason = "no permission to read it"
    except Image.DecompressionBombError:
        limit = 2 * (Image.MAX_IMAGE_PIXELS or 0) // 1_000_000
        raise DataError(f"{path}: more than {limit} million pixels", "cut the image into tiles") from None
    except MemoryError:
        reason = "not enough memory to decode it"
    # A broken file makes Pillow's decoders raise nearly anything: OSError, SyntaxError, struct.error, IndexError...
    except Exception as error:
        reason = f"broken image ({str(error) or type(error).__name__})"
    raise DataError(f"{path}: {reason}", "restore the file, or remove it and its annotation")


def _orientation(image: Image.Image) -> int:
    try:
        orientation = int(image.getexif().get(_ORIENTATION_TAG, 1))
    # Damaged metadata does not make the pixels unusable; Pillow's parser raises many kinds of errors.
    except Exception:
        return 1
    return orientation if orientation in _UPRIGHT else 1


def _upright_size(image: Image.Image, orientation: int) -> tuple[int, int]:
    return (image.height, image.width) if orientation in _SIDES_SWAPPED else image.size


def _orientation_in(data: DetectionData, index: int, image: Image.Image) -> int:
    """How to turn an image of a data set: as its EXIF says, or not at all where it was annotated as it is stored."""
    annotated = (int(data.sizes[index, 0]), int(data.sizes[index, 1]))
    orientation = _orientation(image)
    upright = _upright_size(image, orientation)
    if annotated == (0, 0) or annotated == upright:
        return orientation
    if annotated == image.size:
        return 1
    raise DataError(
        f"{data.path(index)}: the file has {_by(upright)} pixels but its annotation says {_by(annotated)}",
        "the image was replaced or resized after it was annotated: restore it or correct the annotation",
    )


def _upright(image: Image.Image, orientation: int) -> Image.Image:
    image.load()
    rgb = _to_rgb(image)
    return rgb.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgb


def _pixels(image: Image.Image, orientation: int) -> np.ndarray:
    return np.array(_upright(image, orientation), dtype=np.uint8, order="C")


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_8_bit(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(values: np.ndarray) -> np.ndarray:
    """Gray values of more than 8 bits as uint8, by the rules in the module's docstring."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0, 1
    elif values.dtype.kind != "f" and low >= 0 and high <= 65535:
        low, high = 0, 65535
    span = max(float(high) - float(low), 1e-12)
    return np.rint((values.astype(np.float64) - float(low)) * (255.0 / span)).astype(np.uint8)


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"
