"""YOLO folders made by hand."""

from pathlib import Path

import pytest
from PIL import Image

from fcos_cli.data.formats.assemble import UNREADABLE
from fcos_cli.data.formats.yolo import yolo_index_splits, yolo_splits
from fcos_cli.errors import DataError


def image(path: Path, size: tuple[int, int] = (200, 100)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """images/<split> and labels/<split>, with names in classes.txt."""
    image(tmp_path / "images" / "train" / "2.jpg")
    image(tmp_path / "images" / "train" / "10.png", (40, 80))
    image(tmp_path / "images" / "val" / "3.jpg")
    text(tmp_path / "labels" / "train" / "2.txt", "1 0.5 0.5 0.25 0.5\n\n0 0.1 0.2 0.2 0.4\n")
    text(tmp_path / "labels" / "val" / "3.txt", "")
    text(tmp_path / "classes.txt", "cat\ndog\n")
    return tmp_path


def test_boxes_in_pixels(yolo: Path) -> None:
    splits = yolo_splits(yolo)
    assert sorted(splits) == ["train", "val"]
    data = splits["train"].open()
    assert splits["train"].count() == 2
    assert list(data.file_names) == ["images/train/2.jpg", "images/train/10.png"]
    assert data.sizes.tolist() == [[200, 100], [40, 80]]
    assert data.boxes.round(9).tolist() == [[75, 25, 125, 75], [0, 0, 40, 40]]
    assert data.areas.round(9).tolist() == [2500, 1600]
    assert data.labels.tolist() == [1, 0]
    assert data.offsets.tolist() == [0, 2, 2]
    assert data.image_ids.tolist() == [2, 10]
    assert data.categories.ids == (0, 1)
    assert data.categories.names == ("cat", "dog")
    assert not data.crowd.any()
    assert data.read(1).shape == (80, 40, 3)
    assert len(splits["val"].open().boxes) == 0


def test_polygon_becomes_its_box(yolo: Path) -> None:
    text(yolo / "labels" / "val" / "3.txt", "0 0.5 0.1 0.9 0.5 0.5 0.9 0.1 0.5\n1 0 0 1 0 1 1")
    data = yolo_splits(yolo)["val"].open()
    assert data.boxes.round(9).tolist() == [[20, 10, 180, 90], [0, 0, 200, 100]]


def test_coordinates_belong_to_the_upright_image(yolo: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (200, 100)).save(yolo / "images" / "val" / "3.jpg", exif=exif)
    text(yolo / "labels" / "val" / "3.txt", "0 0.5 0.5 1 1")
    data = yolo_splits(yolo)["val"].open()
    assert data.boxes.tolist() == [[0, 0, 100, 200]]
    assert data.read(0).shape == (200, 100, 3)


def test_useless_boxes_are_dropped_and_counted(yolo: Path) -> None:
    text(yolo / "labels" / "train" / "10.txt", "0 0.5 0.5 0 0.1\n0 nan 0.5 0.1 0.1\n")
    (yolo / "images" / "train" / "2.jpg").write_bytes(b"broken")
    data = yolo_splits(yolo)["train"].open()
    assert len(data) == 2
    assert data.dropped == {
        "boxes of images whose size cannot be read": 2,
        "boxes with a side of zero or less": 1,
        "boxes with NaN, infinite or missing coordinates": 1,
    }


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("2 0.5 0.5 0.1 0.1", "class 2 is not among the 2 classes"),
        ("-1 0.5 0.5 0.1 0.1", "class -1"),
        ("0.5 0.5 0.5 0.1 0.1", "class 0.5"),
        ("0 0.5 0.5 0.1", "4 numbers"),
        ("0", "1 numbers"),
        ("0 0.5 0.5 0.1 0.1 0.9", "6 numbers; a prediction"),
        ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.4", "8 numbers"),
        ("cat 0.5 0.5 0.1 0.1", "not numbers"),
        ("0 100 50 20 20", "beyond 0..1"),
        ("0 0.5 0.5 inf 0.1", "beyond 0..1"),
    ],
)
def test_malformed_lines_name_file_and_line(yolo: Path, line: str, message: str) -> None:
    """They are left out; the other lines of the file are read."""
    path = yolo / "labels" / "train" / "10.txt"
    text(path, f"0 0.5 0.5 0.1 0.1\n\n{line}\n")
    data = yolo_splits(yolo)["train"].open()
    assert len(data.boxes) == 3
    (found,) = data.findings
    assert found.kind.boxes
    assert found.count == 1
    assert found.examples[0].startswith("labels/train/10.txt:3: ")
    assert message in found.examples[0]


def test_label_file_that_is_no_text(yolo: Path) -> None:
    """The image is left out: nobody knows what is in it."""
    (yolo / "labels" / "train" / "10.txt").write_bytes(b"\x00\x81\xff")
    data = yolo_splits(yolo)["train"].open()
    assert list(data.file_names) == ["images/train/2.jpg"]
    (found,) = data.findings
    assert found.kind is UNREADABLE
    assert "10.txt: not UTF-8 text" in found.examples[0]


def test_a_list_of_classes_without_any(yolo: Path) -> None:
    (yolo / "classes.txt").write_text("")
    data = yolo_splits(yolo)["train"].open()
    assert len(data.boxes) == 0
    assert [finding.count for finding in data.findings] == [2, 1]


def test_class_names_are_required(yolo: Path) -> None:
    (yolo / "classes.txt").unlink()
    with pytest.raises(DataError, match="without class names") as caught:
        yolo_splits(yolo)["train"].open()
    assert "classes.txt" in caught.value.hint
    text(yolo / "labels" / "classes.txt", "a\nb")
    assert yolo_splits(yolo)["train"].open().categories.names == ("a", "b")


@pytest.mark.parametrize(
    ("names", "ids", "expected"),
    [
        ("names: [cat, dog]", (0, 1), ("cat", "dog")),
        ("names:\n- cat\n- dog", (0, 1), ("cat", "dog")),
        ("names:\n  0: cat\n  5: dog\n  1: 7", (0, 1, 5), ("cat", "7", "dog")),
        ("nc: 2", (0, 1), ("class 0", "class 1")),
    ],
)
def test_index_gives_names(yolo: Path, names: str, ids: tuple[int, ...], expected: tuple[str, ...]) -> None:
    text(yolo / "data.yaml", f"# made by hand\npath: .\ntrain: images/train\n{names}\n")
    splits = yolo_index_splits(yolo / "data.yaml")
    assert list(splits) == ["train"]
    data = splits["train"].open()
    assert data.categories.ids == ids
    assert data.categories.names == expected


def test_folder_with_an_index_is_read_by_it(yolo: Path) -> None:
    text(yolo / "hyp.yaml", "lr: 0.1")
    text(yolo / "my.yaml", "path: /nowhere/else\ntrain: [images/train, images/val]\nval: images/val\nnames: [a, b]")
    splits = yolo_splits(yolo)
    assert list(splits) == ["train", "val"]
    assert len(splits["train"].open()) == 3


def test_lists_of_images(yolo: Path) -> None:
    text(yolo / "some.txt", f"./images/train/2.jpg\n{yolo}/images/val/3.jpg\n")
    text(yolo / "data.yaml", "train: some.txt\nnames: [a, b]")
    data = yolo_splits(yolo)["train"].open()
    assert list(data.file_names) == ["images/train/2.jpg", "images/val/3.jpg"]
    assert len(data.boxes) == 2


def test_roboflow_layout_and_its_wrong_paths(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        image(tmp_path / "set" / split / "images" / "a.jpg")
        text(tmp_path / "set" / split / "labels" / "a.txt", "0 0.5 0.5 1 1")
    text(tmp_path / "set" / "data.yaml", "train: ../train/images\nval: ../valid/images\nnc: 1\nnames: ['x']")
    splits = yolo_splits(tmp_path / "set")
    assert list(splits) == ["train", "val"]
    assert splits["val"].open().boxes.tolist() == [[0, 0, 200, 100]]
    (tmp_path / "set" / "data.yaml").unlink()
    text(tmp_path / "set" / "classes.txt", "x")
    assert sorted(yolo_splits(tmp_path / "set")) == ["train", "valid"]


def test_undivided_folder(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.jpg")
    text(tmp_path / "labels" / "a.txt", "0 0.5 0.5 1 1")
    text(tmp_path / "labels" / "classes.txt", "x")
    splits = yolo_splits(tmp_path)
    assert list(splits) == ["all"]
    assert len(splits["all"].open().boxes) == 1


def test_labels_beside_the_images(tmp_path: Path) -> None:
    image(tmp_path / "train" / "a.jpg")
    text(tmp_path / "train" / "a.txt", "0 0.5 0.5 1 1")
    text(tmp_path / "data.yaml", "train: train\nnames: [x]")
    assert len(yolo_splits(tmp_path)["train"].open().boxes) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("train: [a\nnames: b", "not valid YAML"),
        ("- a\n- b", "not a YOLO index"),
        ("names: [a]", "names none of train, val, test"),
        ("train: images/train", "`names` must list the classes"),
        ("train: images/train\nnc: 99999999999999999999", "`names` must list the classes"),
        ("train: images/train\nnames: {a: 0}", "`names` must list the classes"),
    ],
)
def test_index_that_cannot_be_used(yolo: Path, content: str, message: str) -> None:
    text(yolo / "data.yaml", content)
    with pytest.raises(DataError, match=message) as caught:
        yolo_index_splits(yolo / "data.yaml")
    assert "data.yaml" in caught.value.message


def test_index_that_names_a_missing_folder(yolo: Path) -> None:
    text(yolo / "data.yaml", "train: images/trian\nnames: [a]")
    splits = yolo_splits(yolo)
    assert splits["train"].count() is None
    assert "trian" in splits["train"].lost
    with pytest.raises(DataError, match=r"no folder or list of images .*trian"):
        splits["train"].open()


def test_other_folders_are_no_yolo(tmp_path: Path) -> None:
    image(tmp_path / "images" / "a.jpg")
    text(tmp_path / "compose.yaml", "services: {}")
    assert yolo_splits(tmp_path) == {}
