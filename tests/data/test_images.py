"""Reading image files: every mode Pillow knows, rotations, and the ways a file can be broken."""

import contextlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcos_cli.data.images import image_size, image_sizes, read_image
from fcos_cli.data.sources.files import ImageFiles
from fcos_cli.errors import DataError

FILES = ImageFiles()
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
CORNERS = np.array([[RED, GREEN], [BLUE, WHITE]], dtype=np.uint8)


def save_rotated(path: Path, stored: np.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(path, exif=exif)


def test_rgb_is_read_as_it_is(tmp_path: Path) -> None:
    Image.fromarray(CORNERS).save(tmp_path / "a.png")
    pixels = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels, CORNERS)
    assert pixels.dtype == np.uint8
    assert pixels.flags.c_contiguous
    assert pixels.flags.writeable
    np.testing.assert_array_equal(read_image(str(tmp_path / "a.png")), CORNERS)


@pytest.mark.parametrize(
    ("orientation", "upright"),
    [
        (1, lambda a: a),
        (2, np.fliplr),
        (3, lambda a: np.rot90(a, 2)),
        (4, np.flipud),
        (5, lambda a: a.transpose(1, 0, 2)),
        (6, lambda a: np.rot90(a, -1)),
        (7, lambda a: np.rot90(a, 2).transpose(1, 0, 2)),
        (8, np.rot90),
        (99, lambda a: a),
    ],
)
def test_exif_orientation(tmp_path: Path, orientation: int, upright) -> None:
    stored = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3) * 10
    save_rotated(tmp_path / "a.png", stored, orientation)
    pixels = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(pixels, upright(stored))
    assert pixels.flags.c_contiguous
    assert image_size(tmp_path / "a.png") == (pixels.shape[1], pixels.shape[0])


def test_damaged_exif_is_ignored(tmp_path: Path) -> None:
    Image.fromarray(CORNERS).save(tmp_path / "a.png", exif=b"Exif\0\0nonsense that is no TIFF header")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), CORNERS)


def test_gray_and_bilevel(tmp_path: Path) -> None:
    gray = np.array([[0, 100], [200, 255]], dtype=np.uint8)
    Image.fromarray(gray).save(tmp_path / "gray.png")
    np.testing.assert_array_equal(read_image(tmp_path / "gray.png"), np.repeat(gray[..., None], 3, axis=2))
    Image.fromarray(gray > 128).save(tmp_path / "bits.png")
    np.testing.assert_array_equal(read_image(tmp_path / "bits.png")[..., 0], [[0, 0], [255, 255]])


def test_palette_and_its_transparency(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8), mode="P")
    image.putpalette([*RED, *GREEN])
    image.save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), [[RED, GREEN]])
    image.save(tmp_path / "b.png", transparency=1)
    np.testing.assert_array_equal(read_image(tmp_path / "b.png"), [[RED, WHITE]])


def test_alpha_is_composited_on_white(tmp_path: Path) -> None:
    rgba = np.array([[[0, 0, 0, 0], [0, 0, 0, 255], [100, 0, 0, 51]]], dtype=np.uint8)
    Image.fromarray(rgba).save(tmp_path / "a.png")
    # 100 * 0.2 + 255 * 0.8 = 224; 0 * 0.2 + 255 * 0.8 = 204
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), [[WHITE, (0, 0, 0), (224, 204, 204)]])
    Image.fromarray(rgba[..., [0, 3]], mode="LA").save(tmp_path / "la.png")
    np.testing.assert_array_equal(read_image(tmp_path / "la.png")[0, :, 0], [255, 0, 224])
    Image.fromarray(CORNERS).save(tmp_path / "key.png", transparency=RED)
    np.testing.assert_array_equal(read_image(tmp_path / "key.png"), [[WHITE, GREEN], [BLUE, WHITE]])


def test_cmyk(tmp_path: Path) -> None:
    Image.fromarray(np.full((16, 16, 3), RED, dtype=np.uint8)).convert("CMYK").save(tmp_path / "a.jpg", quality=100)
    pixels = read_image(tmp_path / "a.jpg")
    assert pixels.shape == (16, 16, 3)
    np.testing.assert_allclose(pixels.astype(int).mean(axis=(0, 1)), RED, atol=4)


def test_16_bit_gray_uses_the_full_range(tmp_path: Path) -> None:
    values = np.array([[0, 257, 65535, 32896]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_image(tmp_path / "a.png")[0, :, 1], [0, 1, 255, 128])
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "a.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "a.tif")[0, :, 2], [0, 1, 255, 128])


def test_images_without_a_fixed_range_are_stretched(tmp_path: Path) -> None:
    Image.fromarray(np.array([[-100000, 0, 100000]], dtype=np.int32)).save(tmp_path / "i.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "i.tif")[0, :, 0], [0, 128, 255])
    Image.fromarray(np.array([[0.25, 1.0]], dtype=np.float32)).save(tmp_path / "unit.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "unit.tif")[0, :, 0], [64, 255])
    Image.fromarray(np.array([[5.0, 10.0, np.nan]], dtype=np.float32)).save(tmp_path / "f.tif")
    np.testing.assert_array_equal(read_image(tmp_path / "f.tif")[0, :, 0], [128, 255, 0])


def test_first_frame_of_an_animation(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (4, 3), colour) for colour in (RED, BLUE)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    np.testing.assert_array_equal(read_image(tmp_path / "a.gif"), np.full((3, 4, 3), RED))


def test_broken_files_name_the_file_and_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    for name in ("whole.jpg", "whole.png"):
        Image.fromarray(noise).save(tmp_path / name)
    jpeg = (tmp_path / "whole.jpg").read_bytes()
    png = (tmp_path / "whole.png").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(jpeg[: len(jpeg) // 2])
    (tmp_path / "cut.png").write_bytes(png[: len(png) // 2])
    (tmp_path / "empty.jpg").write_bytes(b"")
    (tmp_path / "text.jpg").write_text("<html>404</html>")
    cases = {
        "cut.jpg": "truncated",
        "cut.png": "broken",
        "empty.jpg": "empty",
        "text.jpg": "not an image",
        "absent.jpg": "no such image",
        ".": "a folder",
    }
    for name, reason in cases.items():
        with pytest.raises(DataError, match=reason) as caught:
            read_image(tmp_path / name)
        assert str(tmp_path / name) in caught.value.message
        assert caught.value.hint
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(DataError, match="million pixels"):
        read_image(tmp_path / "whole.jpg")


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_every_truncation_of_a_file_is_a_data_error(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (8, 8, 3), dtype=np.uint8)
    for extension in ("png", "gif", "bmp", "tif", "webp"):
        Image.fromarray(noise).save(tmp_path / f"whole.{extension}")
        content = (tmp_path / f"whole.{extension}").read_bytes()
        for end in range(1, len(content) - 40, 7):
            (tmp_path / "cut").write_bytes(content[:end])
            with contextlib.suppress(DataError):
                assert read_image(tmp_path / "cut").shape == (8, 8, 3)


def test_sizes_from_headers(tmp_path: Path) -> None:
    Image.new("RGB", (5, 7)).save(tmp_path / "a.jpg")
    (tmp_path / "b.jpg").write_bytes(b"")
    sizes = image_sizes([tmp_path / "a.jpg", tmp_path / "b.jpg", tmp_path / "c.jpg"])
    assert sizes.tolist() == [[5, 7], [0, 0], [0, 0]]
    assert image_sizes([]).shape == (0, 2)


def test_real_images(shared_data: Path) -> None:
    assert read_image(shared_data / "bccd" / "JPEGImages" / "BloodImage_00000.jpg").shape == (480, 640, 3)


def test_16_bit_colour_keeps_its_colours(tmp_path: Path) -> None:
    """Pillow itself cannot write them: the bytes of a PNG of 16 bits a channel, 2 x 1 pixels."""
    rows = b"\x00" + np.array([65535, 0, 0, 0, 32896, 65535], dtype=">u2").tobytes()

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), [[RED, (0, 128, 255)]])


@pytest.mark.parametrize("name", ["a.gif", "a.webp", "a.png", "a.tif"])
def test_first_frame_of_every_format_that_moves(tmp_path: Path, name: str) -> None:
    frames = [Image.new("RGB", (16, 12), colour) for colour in (RED, BLUE)]
    options = {"lossless": True} if name == "a.webp" else {}
    frames[0].save(tmp_path / name, save_all=True, append_images=frames[1:], **options)
    with Image.open(tmp_path / name) as image:
        assert image.n_frames == 2
    np.testing.assert_array_equal(read_image(tmp_path / name), np.full((12, 16, 3), RED))
