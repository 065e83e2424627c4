"""Pascal VOC folders made by hand, and BCCD."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcos_cli.data.findings import Finding, Kind
from fcos_cli.data.formats.assemble import NO_AREA, NOT_FINITE, UNREADABLE
from fcos_cli.data.formats.finding import ELSEWHERE, NOT_FOUND
from fcos_cli.data.formats.voc import LISTED_TWICE, NO_CLASS, NO_FILE, voc_splits
from fcos_cli.data.formats.voc_file import NO_BOX, NO_NAME, NO_NUMBERS, NO_SIZE
from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError


def item(name: str, box: tuple[object, ...] | None, difficult: object = 0) -> str:
    bounds = ""
    if box is not None:
        bounds = "".join(f"<{k}>{v}</{k}>" for k, v in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True))
        bounds = f"<bndbox>{bounds}</bndbox>"
    # Parts of a person have boxes of their own; they are no objects.
    part = "<part><name>head</name><bndbox><xmin>1</xmin><ymin>1</ymin><xmax>2</xmax><ymax>2</ymax></bndbox></part>"
    flag = "" if difficult is None else f"<difficult>{difficult}</difficult>"
    return f"<object><name> {name} </name>{flag}{bounds}{part}</object>"


def write(path: Path, *objects: str, size: tuple[int, int] | None = (100, 50), file_name: str = "") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>" if size else ""
    path.write_text(f"<annotation><filename>{file_name}</filename>{sides}{''.join(objects)}</annotation>")


def split_list(folder: Path, split: str, *lines: str) -> None:
    path = folder / "ImageSets" / "Main" / f"{split}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n")


def image(path: Path, size: tuple[int, int] = (100, 50)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def odd(data: DetectionData) -> tuple[Finding, ...]:
    """What was found, apart from images that the tests do not draw."""
    return tuple(finding for finding in data.findings if finding.kind is not NOT_FOUND)


@pytest.fixture
def voc(tmp_path: Path) -> Path:
    annotations = tmp_path / "Annotations"
    write(annotations / "pic_2.xml", item("zebra", (1, 2, 30, 40)), item("cat", (0, 0, 100.5, 50), 1))
    write(annotations / "pic_10.xml")
    write(annotations / "pic_3.xml", item("dog", (5, 5, 9, 9), None))
    image(tmp_path / "JPEGImages" / "pic_2.png")
    split_list(tmp_path, "train", "pic_10", "", "pic_2.jpg")
    split_list(tmp_path, "val", "pic_3")
    split_list(tmp_path, "cat_train", "pic_2  1", "pic_10 -1")
    return tmp_path


def test_boxes_are_taken_as_written(voc: Path) -> None:
    splits = voc_splits(voc)
    assert sorted(splits) == ["train", "val"]
    data = splits["train"].open()
    assert splits["train"].count() == len(data) == 2
    assert data.boxes.tolist() == [[1, 2, 30, 40], [0, 0, 100.5, 50]]
    assert data.areas.tolist() == [29 * 38, 100.5 * 50]
    assert data.offsets.tolist() == [0, 0, 2]
    assert data.sizes.tolist() == [[100, 50], [100, 50]]
    assert data.box_ids.tolist() == [1, 2]


def test_difficult_objects_are_ignore_regions(voc: Path) -> None:
    assert voc_splits(voc)["train"].open().crowd.tolist() == [False, True]
    assert voc_splits(voc)["val"].open().crowd.tolist() == [False]


@pytest.mark.parametrize(
    ("word", "difficult"),
    [("1", True), (" 1 ", True), ("True", True), ("yes", True), ("2", True)]
    + [(word, False) for word in ("0", "", "Unspecified", "false", "no", "None", "-")],
)
def test_difficult_is_what_a_true_value_says(voc: Path, word: str, difficult: bool) -> None:
    write(voc / "Annotations" / "pic_3.xml", item("dog", (5, 5, 9, 9), word))
    assert voc_splits(voc)["val"].open().crowd.tolist() == [difficult]


def test_classes_and_image_ids_do_not_depend_on_the_split(voc: Path) -> None:
    train, val = (voc_splits(voc)[split].open() for split in ("train", "val"))
    assert train.categories.names == val.categories.names == ("cat", "dog", "zebra")
    assert train.categories.ids == (1, 2, 3)
    assert train.labels.tolist() == [2, 0]
    assert val.labels.tolist() == [1]
    assert train.image_ids.tolist() == [10, 2]
    assert val.image_ids.tolist() == [3]


def test_a_file_of_classes_gives_their_order(voc: Path) -> None:
    (voc / "labels.txt").write_text("zebra\ndog\ncat\nbird\n")
    data = voc_splits(voc)["train"].open()
    assert data.categories.names == ("zebra", "dog", "cat", "bird")
    assert data.labels.tolist() == [0, 2]
    (voc / "labels.txt").write_text("zebra\ndog\n")
    data = voc_splits(voc)["train"].open()
    assert data.labels.tolist() == [0]
    assert odd(data) == (Finding(NO_CLASS, 1, ("pic_2.xml, object 2: 'cat' is not among zebra, dog",)),)
    (voc / "labels.txt").write_text("zebra\ndog\nzebra\n")
    with pytest.raises(DataError, match="zebra stands there more than once"):
        voc_splits(voc)["train"].open()


def test_image_files_are_found_whatever_the_xml_says(voc: Path) -> None:
    image(voc / "JPEGImages" / "other.jpg")
    write(voc / "Annotations" / "pic_2.xml", file_name="pic_2.jpg")
    write(voc / "Annotations" / "pic_10.xml", file_name="C:\\photos\\other.jpg")
    write(voc / "Annotations" / "pic_3.xml", file_name="gone.jpg")
    assert list(voc_splits(voc)["train"].open().file_names) == ["other.jpg", "pic_2.png"]
    assert list(voc_splits(voc)["val"].open().file_names) == ["gone.jpg"]
    assert voc_splits(voc)["train"].open().read(1).shape == (50, 100, 3)


def test_missing_sizes_come_from_the_image(voc: Path) -> None:
    image(voc / "JPEGImages" / "pic_2.png", (33, 44))
    write(voc / "Annotations" / "pic_2.xml", size=None)
    write(voc / "Annotations" / "pic_10.xml", size=(0, 0))
    assert voc_splits(voc)["train"].open().sizes.tolist() == [[0, 0], [33, 44]]


def test_useless_boxes_are_dropped_and_counted(voc: Path) -> None:
    boxes = [(5, 5, 5, 9), (5, 9, 8, 2), ("nan", 1, 2, 3), (1, 1, 2, 2)]
    write(voc / "Annotations" / "pic_3.xml", *(item("dog", box) for box in boxes), item("dog", None))
    data = voc_splits(voc)["val"].open()
    assert data.boxes.tolist() == [[1, 1, 2, 2]]
    assert data.dropped == {
        "objects without a bndbox": 1,
        "boxes with NaN, infinite or missing coordinates": 1,
        "boxes with a side of zero or less": 2,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("<annotation><object>", "not valid XML"),
        ("<?xml version='1.0' encoding='klingon'?><annotation/>", "not valid XML"),
        ("<annotations></annotations>", "outer element is <annotations>"),
    ],
)
def test_an_image_whose_file_is_broken_is_left_out(voc: Path, text: str, message: str) -> None:
    path = voc / "Annotations" / "pic_3.xml"
    path.write_text(text)
    split_list(voc, "val", "pic_3", "pic_10")
    data = voc_splits(voc)["val"].open()
    assert data.image_ids.tolist() == [10]
    (found,) = odd(data)
    assert (found.kind, found.count) == (UNREADABLE, 1)
    assert found.examples[0].startswith(f"{path}: ")
    assert message in found.examples[0]
    assert odd(voc_splits(voc)["train"].open()) == ()


@pytest.mark.parametrize(
    ("content", "kind", "message"),
    [
        (item("dog", (1, 2, "x", 4)), NO_NUMBERS, "object 2: xmax is 'x'"),
        ("<object><name>dog</name><bndbox/></object>", NO_NUMBERS, "object 2: xmin is missing"),
        (item("", (1, 2, 3, 4)), NO_NAME, "object 2"),
        (item("dog", None), NO_BOX, "object 2"),
        (item("dog", (1, 2, 1, 4)), NO_AREA, "object 2"),
        (item("dog", (1, 2, "inf", 4)), NOT_FINITE, "object 2"),
    ],
)
def test_an_object_that_cannot_be_used_is_left_out(voc: Path, content: str, kind: Kind, message: str) -> None:
    write(voc / "Annotations" / "pic_3.xml", item("dog", (5, 5, 9, 9)), content)
    data = voc_splits(voc)["val"].open()
    assert data.boxes.tolist() == [[5, 5, 9, 9]]
    assert odd(data) == (Finding(kind, 1, (f"pic_3.xml, {message}",)),)


@pytest.mark.parametrize("width", ["wide", "nan", "inf", "-5", "1e12"])
def test_sizes_that_are_none_come_from_the_image(voc: Path, width: str) -> None:
    image(voc / "JPEGImages" / "pic_3.png", (33, 44))
    write(voc / "Annotations" / "pic_3.xml", size=(width, 50))
    data = voc_splits(voc)["val"].open()
    assert data.sizes.tolist() == [[33, 44]]
    assert odd(data) == (Finding(NO_SIZE, 1, (f"pic_3.xml: {width} x 50",)),)


def test_split_lists_that_do_not_fit(voc: Path) -> None:
    split_list(voc, "val", "pic_3", "pic_4", "pic_5")
    data = voc_splits(voc)["val"].open()
    assert data.image_ids.tolist() == [3]
    assert Finding(NO_FILE, 2, ("pic_4.xml", "pic_5.xml")) in data.findings
    split_list(voc, "val", "pic_3", "pic_3")
    data = voc_splits(voc)["val"].open()
    assert data.image_ids.tolist() == [3]
    assert Finding(LISTED_TWICE, 1, ("pic_3",)) in data.findings
    split_list(voc, "val", "pic_4")
    with pytest.raises(DataError, match=r"none of its 1 annotation files is in .*pic_4\.xml"):
        voc_splits(voc)["val"].open()


def test_lists_of_two_columns(voc: Path) -> None:
    """train.txt may have VOC's second column; lists for each class, such as cat_train, are no splits."""
    split_list(voc, "train", "pic_10  1", "pic_2 -1")
    splits = voc_splits(voc)
    assert sorted(splits) == ["train", "val"]
    assert splits["train"].open().image_ids.tolist() == [10, 2]


def test_hidden_files_of_macos_are_passed_over(voc: Path) -> None:
    for name in ("._pic_2", "._pic_3", "._pic_10"):
        (voc / "Annotations" / f"{name}.xml").write_bytes(b"\0\5\x16\7")
    assert odd(voc_splits(voc)["train"].open()) == ()
    for file in (voc / "ImageSets" / "Main").iterdir():
        file.unlink()
    assert len(voc_splits(voc)["all"].open()) == 3


def test_capital_letters_and_utf_16(tmp_path: Path) -> None:
    write(tmp_path / "Annotations" / "a.XML", item("x", (1, 1, 5, 5)))
    text = (tmp_path / "Annotations" / "a.XML").read_text()
    (tmp_path / "Annotations" / "b.xml").write_bytes(f"<?xml version='1.0' encoding='utf-16'?>{text}".encode("utf-16"))
    image(tmp_path / "JPEGImages" / "a.jpg")
    image(tmp_path / "JPEGImages" / "b.jpg")
    data = voc_splits(tmp_path)["all"].open()
    assert data.boxes.tolist() == [[1, 1, 5, 5], [1, 1, 5, 5]]
    assert odd(data) == ()


def test_images_that_lie_elsewhere_are_found_and_said(tmp_path: Path) -> None:
    write(tmp_path / "Annotations" / "a.xml", item("x", (1, 1, 5, 5)))
    image(tmp_path / "photos" / "june" / "a.png")
    data = voc_splits(tmp_path)["all"].open()
    assert data.path(0) == tmp_path / "photos" / "june" / "a.png"
    assert [finding.kind for finding in data.findings] == [ELSEWHERE]


def test_folder_without_split_lists(tmp_path: Path) -> None:
    write(tmp_path / "Annotations" / "a.xml", item("x", (1, 1, 5, 5)))
    image(tmp_path / "images" / "a.jpg")
    splits = voc_splits(tmp_path)
    assert list(splits) == ["all"]
    data = splits["all"].open()
    assert data.root == tmp_path / "images"
    assert data.read(0).shape == (50, 100, 3)


def test_xml_files_beside_the_images(tmp_path: Path) -> None:
    for split, name, label in (("train", "a1", "x"), ("valid", "a1", "y")):
        write(tmp_path / "set" / split / f"{name}.xml", item(label, (1, 1, 5, 5)))
        image(tmp_path / "set" / split / f"{name}.jpg")
    splits = voc_splits(tmp_path / "set")
    assert sorted(splits) == ["train", "valid"]
    train, valid = splits["train"].open(), splits["valid"].open()
    assert train.categories.names == valid.categories.names == ("x", "y")
    assert valid.labels.tolist() == [1]
    assert train.image_ids[0] != valid.image_ids[0]
    assert train.read(0).shape == (50, 100, 3)
    assert list(voc_splits(tmp_path / "set" / "train")) == ["all"]


def test_ids_of_hashed_names_do_not_depend_on_the_place(tmp_path: Path) -> None:
    ids = []
    for place in ("here", "there"):
        write(tmp_path / place / "Annotations" / "cat.xml")
        ids.append(voc_splits(tmp_path / place)["all"].open().image_ids[0])
    assert ids[0] == ids[1] > 1 << 40


def test_lower_case_folder_and_verified_files(tmp_path: Path) -> None:
    write(tmp_path / "annotations" / "a.xml", item("x", (1, 1, 5, 5)))
    path = tmp_path / "annotations" / "a.xml"
    path.write_text(path.read_text().replace("<annotation>", '<annotation verified="yes">'))
    image(tmp_path / "images" / "a.jpg")
    assert len(voc_splits(tmp_path)["all"].open().boxes) == 1


def test_other_folders_are_no_voc(tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text("<project></project>")
    assert voc_splits(tmp_path) == {}


def test_bccd(shared_data: Path) -> None:
    splits = voc_splits(shared_data / "bccd")
    counts = {name: split.count() for name, split in splits.items()}
    assert counts == {"train": 205, "val": 87, "test": 72, "trainval": 292}
    data = {name: splits[name].open() for name in ("train", "val", "test")}
    kept = sum(len(part.boxes) for part in data.values())
    dropped = sum(part.dropped.get("boxes with a side of zero or less", 0) for part in data.values())
    assert (kept, dropped) == (4886, 2)
    assert data["val"].categories.names == ("Platelets", "RBC", "WBC")
    assert np.unique(np.concatenate([part.image_ids for part in data.values()])).size == 364
    assert data["train"].read(0).shape == (480, 640, 3)
