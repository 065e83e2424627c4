"""Image files: pixels as the person who drew the boxes saw them, sizes from headers.

Alpha is composited on white, what browsers and annotation tools show. Of an animated file the first frame is read.
16-bit gray is scaled by its full range (65535 -> 255), unless it is asked to be stretched (`data.stretch_16_bit`).
32-bit integer and float images have no fixed range: they are stretched from their smallest to their largest value,
unless they hold 16-bit integers or floats within 0..1.
"""

import io
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import TiffImageFile

from fcos_cli.cores import available_cores
from fcos_cli.data.findings import Findings, Kind
from fcos_cli.data.remarks import listening, reading, remark
from fcos_cli.errors import DataError

T = TypeVar("T")
NO_END = Kind("JPEG files without their end marker, whole otherwise and decoded")
NARROW = Kind(
    "16-bit images that use less than a twentieth of their range and reach the network nearly uniform: "
    "data.stretch_16_bit = true stretches them"
)
_SLIVER, _JPEG_END = 0.05, b"\xff\xd9"
LARGEST_SIDE = 1_000_000
"""In pixels: what an annotation file gives beyond it is no image's size."""
_TIFF_WIDTH, _TIFF_HEIGHT, _ORIENTATION_TAG = 0x0100, 0x0101, 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_UNDONE = {2: 2, 3: 3, 4: 4, 5: 5, 6: 8, 7: 7, 8: 6}
SIDES_SWAPPED = frozenset({5, 6, 7, 8})


def read_image(path: str | Path, *, stretch: bool = False) -> np.ndarray:
    """Pixels of an image file.

    Args:
        path: the file.
        stretch: 16-bit gray goes from its smallest to its largest value, instead of from 0 to 65535.

    Returns:
        uint8 [H, W, 3], RGB, C-contiguous, turned upright as its EXIF orientation says.

    Raises:
        DataError: the file is missing, empty, truncated, too large or not an image. Names the file and the reason.
    """
    return open_image(Path(path), lambda image: as_array(load_rgb(image, stretch=stretch)))


def upright_pixels(image: Image.Image, what: str = "the image", *, stretch: bool = False) -> np.ndarray:
    """`read_image` of an image that Pillow has opened already.

    Args:
        image: in any mode.
        what: what to call it in an error.
        stretch: as `read_image` has it.

    Raises:
        DataError: it turns out to be broken as its pixels are decoded.
    """
    try:
        return as_array(load_rgb(image, stretch=stretch))
    # As in `open_image`: a broken file makes Pillow's decoders raise nearly anything.
    except Exception as error:
        raise DataError(f"{what}: broken image ({str(error) or type(error).__name__})") from error


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """uint8 [H, W, 3] -> uint8 [height, width, 3], bilinear with antialiasing; the same array where sizes agree."""
    if image.shape[:2] == (height, width):
        return image
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BILINEAR))


def image_size(path: str | Path) -> tuple[int, int]:
    """Width and height of an image file, upright, from its header alone.

    Raises:
        DataError: the file is missing, empty or not an image.
    """
    return open_image(Path(path), upright_size)


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
    return min(16, available_cores())


def open_image(path: Path, use: Callable[[Image.Image], T]) -> T:
    """What `use` makes of the opened file; every way a file can be broken becomes a DataError."""
    try:
        with reading(path):
            return _opened(path, use)
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


def _opened(path: Path, use: Callable[[Image.Image], T]) -> T:
    try:
        with Image.open(path) as image:
            return use(image)
    except OSError as error:
        whole = _with_its_end(path) if "truncated" in str(error) else None
        if whole is None:
            raise
    remark(NO_END)
    with Image.open(io.BytesIO(whole)) as image:
        return use(image)


def _with_its_end(path: Path) -> bytes | None:
    """A JPEG file with the end marker that it lacks; None where more than that is missing.

    Where all of the picture is there, the decoder does not look at what is put before the marker; else it takes it for
    the rest of the picture.
    """
    content = path.read_bytes()
    if not content.startswith(b"\xff\xd8"):
        return None
    content = content.removesuffix(b"\xff")
    pictures = []
    for filler in (b"", b"\x55\xaa" * 2048):
        with listening(Findings()), Image.open(io.BytesIO(content + filler + _JPEG_END)) as image:
            pictures.append(np.asarray(image))
    return content + _JPEG_END if np.array_equal(pictures[0], pictures[1]) else None


def exif_orientation(image: Image.Image) -> int:
    """How the pixels are still to be turned, 1 to 8, as the file says; 1, not at all, where it does not say.

    Pillow turns TIFF files itself as it loads them, and no others: before and after loading, the answer may differ.
    """
    try:
        orientation = int(image.getexif().get(_ORIENTATION_TAG, 1))
    # Damaged metadata does not make the pixels unusable; Pillow's parser raises many kinds of errors.
    except Exception:
        return 1
    return orientation if orientation in _UPRIGHT else 1


def stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened image that is not loaded yet, before any turning."""
    if isinstance(image, TiffImageFile):
        # The size that Pillow tells is the upright one or the stored one, by its version.
        return int(image.tag_v2[_TIFF_WIDTH]), int(image.tag_v2[_TIFF_HEIGHT])
    return image.size


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of an opened image that is not loaded yet, after turning."""
    width, height = stored_size(image)
    return (height, width) if exif_orientation(image) in SIDES_SWAPPED else (width, height)


def load_rgb(image: Image.Image, *, upright: bool = True, stretch: bool = False) -> Image.Image:
    """The decoded image in RGB, turned upright; or as it is stored in the file. `stretch` as `read_image` has it."""
    before = exif_orientation(image)
    image.load()
    left = exif_orientation(image)
    rgb = _to_rgb(image, stretch)
    turn = left if upright else _UNDONE.get(before, 1) if left != before else 1
    return rgb.transpose(_UPRIGHT[turn]) if turn in _UPRIGHT else rgb


def as_array(rgb: Image.Image) -> np.ndarray:
    """uint8 [H, W, 3], C-contiguous, of an RGB image; a copy."""
    return np.array(rgb, dtype=np.uint8, order="C")


def _to_rgb(image: Image.Image, stretch: bool) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_to_8_bit(np.asarray(image), stretch)).convert("RGB")
    if image.has_transparency_data:
        rgba = image.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return image.convert("RGB")


def _to_8_bit(values: np.ndarray, stretch: bool) -> np.ndarray:
    """Gray values of more than 8 bits as uint8, by the rules in the module's docstring."""
    if values.dtype.kind == "f":
        values = np.nan_to_num(values.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = values.min(), values.max()
    if values.dtype.kind == "f" and low >= 0 and high <= 1:
        low, high = 0, 1
    elif values.dtype.kind != "f" and low >= 0 and high <= 65535 and not stretch:
        if 0 < high - low < _SLIVER * 65535:
            remark(NARROW, f"from {low} to {high}")
        low, high = 0, 65535
    span = max(float(high) - float(low), 1e-12)
    return np.rint((values.astype(np.float64) - float(low)) * (255.0 / span)).astype(np.uint8)
