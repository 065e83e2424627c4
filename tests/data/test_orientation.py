"""Every orientation of every format that can carry one, against Pillow's exif_transpose of a freshly opened file."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps, features

from fcos_cli.data.formats.yolo import yolo_splits
from fcos_cli.data.images import image_size, image_sizes, read_image, upright_pixels
from fcos_cli.data.records import DetectionData
from fcos_cli.data.sources.files import ImageFiles

FILES = ImageFiles()
STORED = (64, 48)
SAVED: dict[str, dict[str, object]] = {
    "a.jpg": {"quality": 95},
    "a.png": {},
    "a.webp": {"lossless": True},
    "raw.tif": {},
    "lzw.tif": {"compression": "tiff_lzw"},
    "jpeg.tif": {"compression": "jpeg"},
    "a.mpo": {"save_all": True},
    "a.avif": {},
}


def save(path: Path, orientation: int, mode: str = "RGB", options: dict[str, object] | None = None) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    values = np.zeros((STORED[1], STORED[0], 3), np.uint8)
    values[: STORED[1] // 2, :, 0] = 255
    values[:, : STORED[0] // 4, 1] = 255
    values[:8, -8:, 2] = 255
    image = Image.fromarray(values)
    if mode == "I;16":
        image = Image.fromarray(values[..., 0].astype(np.uint16) * 257)
    elif mode != "RGB":
        image = image.convert(mode)
    image.save(path, exif=exif, **(SAVED[path.name] if options is None else options))


def transposed(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        upright = ImageOps.exif_transpose(image)
    if upright.mode.startswith("I"):
        return np.repeat((np.asarray(upright) // 257).astype(np.uint8)[..., None], 3, axis=2)
    return np.asarray(upright.convert("RGB"))


def one_image(path: Path, size: tuple[int, int]) -> DetectionData:
    sizes = np.array([size], dtype=np.int32)
    return DetectionData.unannotated("one", np.array([1]), [path.name], sizes, path.parent, FILES)


def same_size(width: int, height: int) -> tuple[int, int]:
    return width, height


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("name", SAVED)
def test_every_way_to_read_agrees_with_pillow(tmp_path: Path, name: str, orientation: int) -> None:
    if name == "a.avif" and not features.check("avif"):
        pytest.skip("this Pillow reads no AVIF")
    path = tmp_path / name
    save(path, orientation)
    wanted = transposed(path)
    size = (wanted.shape[1], wanted.shape[0])
    assert size == (STORED if orientation < 5 else STORED[::-1])
    np.testing.assert_array_equal(read_image(path), wanted)
    with Image.open(path) as image:
        np.testing.assert_array_equal(upright_pixels(image), wanted)
    assert image_size(path) == size
    assert image_sizes([path]).tolist() == [list(size)]
    for annotated in ((0, 0), size):
        data = one_image(path, annotated)
        np.testing.assert_array_equal(data.read(0), wanted)
        for draft in (False, True):
            pixels, original = FILES.read_resized(data, 0, same_size, draft=draft)
            np.testing.assert_array_equal(pixels, wanted)
            assert original == size


@pytest.mark.parametrize("orientation", [2, 3, 5, 6, 7, 8])
@pytest.mark.parametrize("name", ["a.png", "raw.tif", "lzw.tif"])
@pytest.mark.parametrize("mode", ["L", "P", "I;16"])
def test_other_modes_are_turned_as_well(tmp_path: Path, name: str, orientation: int, mode: str) -> None:
    save(tmp_path / name, orientation, mode)
    np.testing.assert_array_equal(read_image(tmp_path / name), transposed(tmp_path / name))


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
@pytest.mark.parametrize("name", ["a.png", "raw.tif", "lzw.tif"])
def test_an_image_annotated_as_it_is_stored_stays_so(tmp_path: Path, name: str, orientation: int) -> None:
    save(tmp_path / name, orientation)
    save(tmp_path / "plain.png", 1, options={})
    wanted = read_image(tmp_path / "plain.png")
    data = one_image(tmp_path / name, STORED)
    np.testing.assert_array_equal(data.read(0), wanted)
    pixels, original = FILES.read_resized(data, 0, same_size)
    np.testing.assert_array_equal(pixels, wanted)
    assert original == STORED


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(("name", "options"), [("big.jpg", {"quality": 95}), ("big.tif", {})])
def test_draft_decoding_turns_once(tmp_path: Path, name: str, options: dict[str, object], orientation: int) -> None:
    """A picture of coloured quarters, at an eighth of its size, is nearly what the whole decoding gives."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    quarters = np.array([[[250, 10, 10], [10, 250, 10]], [[10, 10, 250], [240, 240, 240]]], np.uint8)
    Image.fromarray(quarters.repeat(240, axis=0).repeat(320, axis=1)).save(tmp_path / name, exif=exif, **options)
    with Image.open(tmp_path / name) as image:
        wanted = np.asarray(ImageOps.exif_transpose(image).resize((80, 60) if orientation < 5 else (60, 80)))
    data = one_image(tmp_path / name, (0, 0))
    eighth: Callable[[int, int], tuple[int, int]] = lambda width, height: (width // 8, height // 8)  # noqa: E731
    pixels, original = FILES.read_resized(data, 0, eighth, draft=True)
    assert original == ((640, 480) if orientation < 5 else (480, 640))
    assert pixels.shape == wanted.shape
    assert np.abs(pixels.astype(int) - wanted).mean() < 4


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("extension", ["jpg", "png", "tif", "webp"])
def test_boxes_lie_on_what_they_were_drawn_around(tmp_path: Path, extension: str, orientation: int) -> None:
    """A white rectangle, at its place in the upright picture, whatever way the file is stored."""
    upright = np.zeros((80, 60, 3), np.uint8)
    upright[10:30, 5:25] = 255
    undo = {1: lambda a: a, 2: np.fliplr, 3: lambda a: np.rot90(a, 2), 4: np.flipud, 5: lambda a: a.transpose(1, 0, 2)}
    undo |= {6: np.rot90, 7: lambda a: np.rot90(a, 2).transpose(1, 0, 2), 8: lambda a: np.rot90(a, -1)}
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "images").mkdir()
    (tmp_path / "labels").mkdir()
    stored = np.ascontiguousarray(undo[orientation](upright))
    Image.fromarray(stored).save(tmp_path / "images" / f"a.{extension}", exif=exif)
    (tmp_path / "labels" / "a.txt").write_text("0 0.25 0.25 0.33333333 0.25\n")
    (tmp_path / "classes.txt").write_text("white\n")
    data = yolo_splits(tmp_path)["all"].open()
    assert data.sizes.tolist() == [[60, 80]]
    x0, y0, x1, y1 = data.boxes[0].round().astype(int)
    assert (x0, y0, x1, y1) == (5, 10, 25, 30)
    pixels = data.read(0)
    assert pixels[y0:y1, x0:x1].mean() > 240
    assert pixels.mean() * pixels.size < 1.1 * 255 * 20 * 20 * 3
