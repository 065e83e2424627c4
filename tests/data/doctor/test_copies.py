"""Images that a data set holds more than once: by their bytes, and by what they show."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcos_cli.data.doctor.copies import LEAKED, NEAR_LEAKED, NEAR_REPEATED, REPEATED, copies_found, find_copies
from fcos_cli.data.doctor.near import MOST_DIFFERENT, fingerprints, near_copies
from fcos_cli.data.doctor.same import same_files
from fcos_cli.data.sources.files import image_files


def picture(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """Smooth blobs with some fine grain, as photographs have them."""
    rng = np.random.default_rng(seed)
    coarse = Image.fromarray(rng.integers(20, 235, (6, 8, 3), dtype=np.uint8)).resize(size, Image.Resampling.BICUBIC)
    grain = rng.integers(-12, 13, (size[1], size[0], 1))
    return Image.fromarray(np.clip(np.asarray(coarse).astype(int) + grain, 0, 255).astype(np.uint8))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split, seeds in (("train", range(6)), ("val", range(6, 9))):
        (tmp_path / split).mkdir()
        for seed in seeds:
            picture(seed).save(tmp_path / split / f"{seed}.jpg", quality=92)
    return tmp_path


def opened(folder: Path):
    return {split: image_files([str(folder / split)]) for split in ("train", "val")}


def found(folder: Path, near: bool = True):
    splits = opened(folder)
    return {item.kind: (item.count, item.examples) for item in copies_found(find_copies(splits, near=near), splits)}


def test_nothing_is_found_where_nothing_is(folder: Path) -> None:
    assert found(folder) == {}


def test_the_same_bytes_under_another_name(folder: Path) -> None:
    shutil.copy(folder / "train/1.jpg", folder / "train/copy.jpg")
    shutil.copy(folder / "train/2.jpg", folder / "val/other.jpg")
    expected = {REPEATED: (1, ("train: copy.jpg = 1.jpg",)), LEAKED: (1, ("val and train: other.jpg = 2.jpg",))}
    assert found(folder, near=False) == expected
    assert found(folder) == expected


@pytest.mark.parametrize(
    "change",
    [
        lambda image, path: image.save(path.with_suffix(".jpg"), quality=40),
        lambda image, path: image.save(path.with_suffix(".png")),
        lambda image, path: image.resize((80, 60)).save(path.with_suffix(".jpg"), quality=90),
        lambda image, path: image.resize((427, 321)).save(path.with_suffix(".jpg"), quality=90),
    ],
)
def test_recompressed_and_resized(folder: Path, change) -> None:
    change(Image.open(folder / "train/3.jpg"), folder / "val/x")
    change(Image.open(folder / "train/4.jpg"), folder / "train/y")
    result = found(folder)
    assert {kind: count for kind, (count, _) in result.items()} == {NEAR_LEAKED: 1, NEAR_REPEATED: 1}
    assert "= 3.jpg" in result[NEAR_LEAKED][1][0]
    assert found(folder, near=False) == {}


def test_another_object_makes_another_image(folder: Path) -> None:
    """A square of a sixteenth of the sides, on the same background."""
    image = np.array(Image.open(folder / "train/0.jpg"))
    image[30:38, 40:50] = 255 - image[30:38, 40:50] // 2
    Image.fromarray(image).save(folder / "val/z.jpg", quality=92)
    assert found(folder) == {}


def test_plain_frames_are_no_copies(folder: Path) -> None:
    for name in ("train/p", "val/q"):
        Image.new("RGB", (160, 120), (90, 90, 90 + len(name))).save(folder / f"{name}.png")
    assert found(folder) == {}


def test_no_image_with_anything_on_it() -> None:
    assert near_copies(np.zeros(2, np.uint64), np.zeros((2, 256), np.uint8)) == []


def test_a_turned_file_is_what_it_shows(folder: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = Image.open(folder / "train/5.jpg").transpose(Image.Transpose.ROTATE_90)
    turned.save(folder / "val/t.jpg", exif=exif, quality=92)
    assert found(folder)[NEAR_LEAKED] == (1, ("val and train: t.jpg = 5.jpg",))


def test_broken_empty_and_missing_files_are_no_copies(folder: Path) -> None:
    for name in ("train/a.jpg", "val/b.jpg"):
        (folder / name).write_bytes(b"")
    for name in ("train/c.png", "val/d.png"):
        (folder / name).write_bytes(b"no image" + name.encode())
    assert found(folder) == {}
    assert same_files([folder / "none", folder / "none too"]) == []


def test_files_that_differ_in_the_middle_only(tmp_path: Path) -> None:
    content = bytes(200_000)
    for name, middle in (("a", b"x"), ("b", b"y"), ("c", b"x")):
        (tmp_path / name).write_bytes(content + middle + content)
    assert same_files([tmp_path / "a", tmp_path / "b", tmp_path / "c"]) == [[0, 2]]


def test_near_copies_are_those_within_the_limit_of_every_pair_with_an_equal_part() -> None:
    """Against a plain comparison of all pairs."""
    rng = np.random.default_rng(0)
    base = rng.integers(0, 256, (40, 256))
    noise = rng.integers(-6, 7, (300, 256)) * rng.random((300, 1))
    cells = np.clip(base[rng.integers(0, 40, 300)] + noise, 0, 255).astype(np.uint8)
    hashes = rng.integers(0, 4, 300).astype(np.uint64) * np.uint64(0x0001_0001_0001_0001)
    leader = list(range(300))
    for i in range(300):
        for j in range(i):
            if hashes[i] == hashes[j] and np.abs(cells[i].astype(int) - cells[j]).max() <= MOST_DIFFERENT:
                new, old = sorted((leader[i], leader[j]))
                leader = [new if value == old else value for value in leader]
    expected = sorted(group for value in set(leader) if len(group := [i for i in range(300) if leader[i] == value]) > 1)
    assert sorted(near_copies(hashes, cells)) == expected
    assert expected


def test_the_quick_decoding_sees_what_the_whole_one_does(folder: Path) -> None:
    """JPEG files whose sides are no multiple of the blocks: the reduced decoding pads them."""
    for place, size in enumerate([(641, 427), (333, 517), (65, 1001)]):
        picture(20 + place, size).save(folder / f"train/odd{place}.jpg", quality=95)
        Image.open(folder / f"train/odd{place}.jpg").save(folder / f"val/odd{place}.png")
    train, val = (fingerprints(data, lambda count: None)[1] for data in opened(folder).values())
    difference = np.abs(train[-3:].astype(int) - val[-3:]).max(axis=1)
    assert (difference <= MOST_DIFFERENT / 2).all(), difference
