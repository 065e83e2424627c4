"""Pascal VOC folders made by hand, and BCCD."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcos_cli.data.formats.voc import voc_splits
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
    with pytest.raises(DataError, match=r"pic_2\.xml: class 'cat' is not in the list of classes: zebra, dog"):
        voc_splits(voc)["train"].open()
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
        (f"<annotation>{item('dog', (1, 2, 'x', 4))}</annotation>", "object 1: xmax is 'x', not a number"),
        ("<annotation><object><name>a</name><bndbox/></object></annotation>", "object 1: xmin is missing"),
        (f"<annotation>{item('', (1, 2, 3, 4))}</annotation>", "object 1: no class name"),
        ("<annotation><size><width>wide</width></size></annotation>", "width is 'wide'"),
    ],
)
def test_broken_files(voc: Path, text: str, message: str) -> None:
    path = voc / "Annotations" / "pic_3.xml"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as caught:
        voc_splits(voc)["val"].open()
    assert str(path) in caught.value.message


def test_split_lists_that_do_not_fit(voc: Path) -> None:
    split_list(voc, "val", "pic_3", "pic_4", "pic_5")
    with pytest.raises(DataError, match=r"2 of 3 annotation files are missing .*pic_4\.xml, pic_5\.xml"):
        voc_splits(voc)["val"].open()
    split_list(voc, "val", "pic_3", "pic_3")
    with pytest.raises(DataError, match="pic_3 is listed more than once"):
        voc_splits(voc)["val"].open()


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
