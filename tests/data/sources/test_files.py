"""Image files as a source of pixels: which files are taken, how they are turned, and resizing as they are read."""

from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcos_cli.data.formats.assemble import assemble
from fcos_cli.data.images import resize
from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.data.sources.files import ImageFiles, image_files
from fcos_cli.errors import DataError
from fcos_cli.geometry.resize import resized_size

FILES = ImageFiles()
RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
CORNERS = np.array([[RED, GREEN], [BLUE, WHITE]], dtype=np.uint8)


def save_rotated(path: Path, stored: np.ndarray, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(path, exif=exif)


def one_image(folder: Path, name: str, size: tuple[int, int]) -> DetectionData:
    """A data set of one image that is annotated as `size`."""
    none = np.zeros(0, dtype=np.int64)
    return assemble(
        name="one",
        categories=Categories((), ()),
        root=folder,
        image_ids=np.array([1]),
        file_names=[name],
        sizes=np.array([size], dtype=np.int32),
        image_index=none,
        boxes=np.zeros((0, 4)),
        labels=none,
    )


def test_reader_turns_images_that_were_annotated_upright(tmp_path: Path) -> None:
    stored = np.arange(2 * 3 * 3, dtype=np.uint8).reshape(2, 3, 3)
    save_rotated(tmp_path / "a.png", stored, 6)
    upright = np.rot90(stored, -1)
    np.testing.assert_array_equal(one_image(tmp_path, "a.png", (2, 3)).read(0), upright)
    np.testing.assert_array_equal(one_image(tmp_path, "a.png", (0, 0)).read(0), upright)
    np.testing.assert_array_equal(one_image(tmp_path, "a.png", (3, 2)).read(0), stored)


def test_reader_turns_a_square_image(tmp_path: Path) -> None:
    save_rotated(tmp_path / "a.png", CORNERS, 3)
    np.testing.assert_array_equal(one_image(tmp_path, "a.png", (2, 2)).read(0), np.rot90(CORNERS, 2))


def test_reader_refuses_another_size(tmp_path: Path) -> None:
    Image.fromarray(CORNERS).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png.* 2x2 .*640x480"):
        one_image(tmp_path, "a.png", (640, 480)).read(0)


@pytest.mark.parametrize("orientation", [1, 3, 6, 7])
def test_resizing_on_the_way_gives_the_same_pixels(tmp_path: Path, orientation: int) -> None:
    stored = np.random.default_rng(0).integers(0, 255, (40, 60, 3), dtype=np.uint8)
    save_rotated(tmp_path / "a.png", stored, orientation)
    data = one_image(tmp_path, "a.png", (0, 0))
    whole = data.read(0)
    for size in ((24, 30), (90, 80), whole.shape[1::-1]):
        pixels, original = FILES.read_resized(data, 0, lambda width, height, size=size: size)
        assert original == whole.shape[1::-1]
        assert pixels.flags.writeable
        np.testing.assert_array_equal(pixels, resize(whole, *size))
    with pytest.raises(DataError, match=r"absent\.png: no such image"):
        FILES.read_resized(one_image(tmp_path, "absent.png", (0, 0)), 0, lambda width, height: (width, height))
    with pytest.raises(DataError, match=r"a\.png.* annotation says 61x40"):
        FILES.read_resized(one_image(tmp_path, "a.png", (61, 40)), 0, lambda width, height: (width, height))


def smooth_photo(width: int, height: int) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    waves = [np.sin(x / 37 + k) + np.cos(y / (23 + 9 * k)) for k in range(3)]
    return np.stack([127 + 60 * wave for wave in waves], axis=2).astype(np.uint8)


@pytest.mark.parametrize("orientation", [1, 6])
def test_draft_only_for_images_of_twice_the_size(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, orientation: int
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(smooth_photo(602, 401)).save(tmp_path / "a.jpg", quality=90, exif=exif)
    data = one_image(tmp_path, "a.jpg", (0, 0))
    upright = (602, 401) if orientation == 1 else (401, 602)

    def read(size: tuple[int, int], draft: bool) -> np.ndarray:
        asked = size if orientation == 1 else size[::-1]
        pixels, original = FILES.read_resized(data, 0, lambda width, height: asked, draft=draft)
        assert original == upright
        assert pixels.shape == (*asked[::-1], 3)
        return pixels

    for size in ((301, 201), (302, 200), (500, 400)):
        np.testing.assert_array_equal(read(size, True), read(size, False))
    for size in ((301, 200), (150, 100), (130, 60)):
        quick, whole = read(size, True), read(size, False)
        assert not np.array_equal(quick, whole)
        assert np.abs(quick.astype(int) - whole).mean() < 3


def test_draft_of_real_photographs_is_close(shared_data: Path) -> None:
    """Photographs of COCO's size are decoded whole at the sizes that networks use; here the network is small."""
    folder = shared_data / "coco128" / "train2017"
    differences, both = [], (False, True)
    large = partial(resized_size, short_side=800, long_side=1333)
    little = partial(resized_size, short_side=160, long_side=266)
    for path in sorted(folder.rglob("*.jpg"))[:12]:
        data = one_image(path.parent, path.name, (0, 0))
        usual = [FILES.read_resized(data, 0, large, draft=draft)[0] for draft in both]
        np.testing.assert_array_equal(*usual)
        small = [FILES.read_resized(data, 0, little, draft=draft)[0] for draft in both]
        differences.append(np.abs(small[0].astype(int) - small[1]).mean())
    # Of 255 steps. JPEG at quality 90 itself moves such pictures by about 3.
    assert 0 < np.mean(differences) < 3


def test_draft_leaves_other_formats_alone(tmp_path: Path) -> None:
    Image.fromarray(smooth_photo(400, 300)).save(tmp_path / "a.png")
    data = one_image(tmp_path, "a.png", (0, 0))
    both = [FILES.read_resized(data, 0, lambda width, height: (100, 75), draft=draft)[0] for draft in (True, False)]
    np.testing.assert_array_equal(*both)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    source = Image.fromarray(smooth_photo(32, 24))
    made = Image.new("I;16", (32, 24), 9000) if mode == "I;16" else source.convert(mode)
    made.save(tmp_path / "a.tif")
    pixels, size = FILES.read_resized(one_image(tmp_path, "a.tif", (0, 0)), 0, lambda width, height: (16, 12))
    assert (pixels.shape, pixels.dtype, size) == ((12, 16, 3), np.uint8, (32, 24))


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in its own empty folder, with no FCOS_DATA."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FCOS_DATA", raising=False)
    return tmp_path


def image(path: Path, size: tuple[int, int] = (20, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def test_image_files_of_a_folder(tmp_path: Path) -> None:
    for name in ("b/2.jpg", "b/10.png", "a.JPEG", ".hidden.jpg", ".cache/3.jpg"):
        image(tmp_path / "p" / "x.jpg")
        (tmp_path / "p" / name).parent.mkdir(exist_ok=True, parents=True)
        (tmp_path / "p" / "x.jpg").rename(tmp_path / "p" / name)
    (tmp_path / "p" / "notes.txt").write_text("x")
    (tmp_path / "p" / "b" / "loop").symlink_to(tmp_path / "p", target_is_directory=True)
    data = image_files(["p"])
    assert list(data.file_names) == ["a.JPEG", "b/2.jpg", "b/10.png"]
    assert data.root == tmp_path / "p"
    assert data.image_ids[1:].tolist() == [2, 10]
    assert not data.annotated
    assert data.sizes.tolist() == [[0, 0]] * 3
    assert data.offsets.tolist() == [0, 0, 0, 0]
    assert data.read(2).shape == (10, 20, 3)


def test_linked_folders_are_followed(tmp_path: Path) -> None:
    image(tmp_path / "far" / "1.jpg")
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "near").symlink_to(tmp_path / "far", target_is_directory=True)
    assert list(image_files(["p"]).file_names) == ["near/1.jpg"]


def test_ids_stay_when_files_are_added(tmp_path: Path) -> None:
    for name in ("cat.jpg", "dog.jpg", "7.jpg"):
        image(tmp_path / "p" / name)
    before = image_files(["p"])
    for name in ("bird.jpg", "1.jpg", "sub/cat.jpg"):
        image(tmp_path / "p" / name)
    after = image_files([str(tmp_path / "p")])
    ids = dict(zip(after.file_names, after.image_ids.tolist(), strict=True))
    assert len(set(ids.values())) == 6
    for name, image_id in zip(before.file_names, before.image_ids.tolist(), strict=True):
        assert ids[name] == image_id


def test_image_files_from_several_sources(tmp_path: Path) -> None:
    for name in ("p/a/1.jpg", "p/b/2.jpg", "p/b/deep/3.png"):
        image(tmp_path / name)
    (tmp_path / "p" / "odd").write_bytes((tmp_path / "p" / "a" / "1.jpg").read_bytes())
    (tmp_path / "p" / "b" / "x.txt").write_text("x")
    assert list(image_files(["p/a/1.jpg"]).file_names) == ["1.jpg"]
    assert list(image_files(["p/odd"]).file_names) == ["odd"]
    assert list(image_files(["p/b/*"]).file_names) == ["2.jpg"]
    assert list(image_files(["p/**/*.png"]).file_names) == ["b/deep/3.png"]
    data = image_files(["p/a", "p/b/*.jpg", str(tmp_path / "p" / "a" / "1.jpg")])
    assert list(data.file_names) == ["a/1.jpg", "b/2.jpg"]
    assert data.root == tmp_path / "p"
    image(tmp_path / "odd [1].jpg")
    assert list(image_files(["odd [1].jpg"]).file_names) == ["odd [1].jpg"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("gone.jpg", r"gone\.jpg: no such file or folder"),
        ("p/*.gif", "no image matches"),
        ("empty", "empty: no images in this folder"),
    ],
)
def test_sources_without_images(tmp_path: Path, source: str, message: str) -> None:
    image(tmp_path / "p" / "a.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        image_files(["p", source])
    with pytest.raises(DataError, match="no images were given"):
        image_files([])
