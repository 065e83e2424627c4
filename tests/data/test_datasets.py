"""From what a user types to a data set."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcos_cli.data.datasets import find_splits, known_names, open_data
from fcos_cli.data.formats.finding import NOT_FOUND
from fcos_cli.data.formats.splits import Split, choose_split, meaning
from fcos_cli.errors import DataError


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every test runs in its own empty folder, with no FCOS_DATA."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("FCOS_DATA", raising=False)
    return tmp_path


def image(path: Path, size: tuple[int, int] = (20, 10)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)


def coco(path: Path, boxes: int = 1) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    annotations = [{"id": i + 1, "image_id": 5, "category_id": 2, "bbox": [0, 0, 3 + i, 4]} for i in range(boxes)]
    images = [{"id": 5, "file_name": "a.jpg", "width": 20, "height": 10}]
    categories = [{"id": 2, "name": "x"}]
    path.write_text(json.dumps({"images": images, "annotations": annotations, "categories": categories}))


def coco_layout(root: Path) -> Path:
    """COCO's own layout: 2 boxes in train2017, 1 in val2017."""
    coco(root / "annotations" / "instances_train2017.json", 2)
    coco(root / "annotations" / "instances_val2017.json")
    coco(root / "annotations" / "captions_val2017.json", 3)
    image(root / "val2017" / "a.jpg")
    return root


def test_coco_by_name_under_each_root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for root in ("datasets", "data", "mine"):
        coco_layout(tmp_path / root / "coco")
        monkeypatch.setenv("FCOS_DATA", str(tmp_path / root) if root == "mine" else "")
        data = open_data("coco", "val")
        assert data.root.resolve() == tmp_path / root / "coco" / "val2017"
        assert data.name == "coco val2017"
        assert data.read(0).shape == (10, 20, 3)
    assert len(open_data("coco", "train").boxes) == 2
    monkeypatch.setenv("FCOS_DATA", str(tmp_path / "mine" / "coco"))
    assert len(open_data("coco", "train").boxes) == 2


def test_a_path_goes_before_a_name(tmp_path: Path) -> None:
    coco_layout(tmp_path / "data" / "coco")
    image(tmp_path / "coco" / "photo.jpg")
    assert open_data("coco").annotated is False
    assert open_data("data/coco", "val").annotated


def test_shapes_is_built_in(tmp_path: Path) -> None:
    assert find_splits("shapes")[0] == "built in"
    assert open_data("shapes", "valid").name == open_data("shapes", "val").name
    with pytest.raises(DataError, match="several splits: train, val, test"):
        open_data("shapes")


def test_nothing_found_says_where_it_looked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "data" / "cells").mkdir(parents=True)
    with pytest.raises(DataError) as caught:
        open_data("cels", "val")
    assert all(place in caught.value.message for place in ("cels", "data/cels", "datasets/cels"))
    assert "did you mean cells?" in caught.value.hint
    assert "FCOS_DATA" in caught.value.hint
    monkeypatch.setenv("FCOS_DATA", "/some/where")
    with pytest.raises(DataError, match="/some/where/cels"):
        open_data("cels", "val")
    with pytest.raises(DataError, match=r"no data set /no/such/thing: looked for /no/such/thing$"):
        open_data("/no/such/thing")
    with pytest.raises(DataError, match="holds no data set"):
        open_data("cells")


@pytest.mark.parametrize(
    ("wanted", "names", "chosen"),
    [
        ("val", ["train2017", "val2017"], "val2017"),
        ("val", ["train", "valid", "test"], "valid"),
        ("validation", ["train", "val"], "val"),
        ("val2017", ["train", "val"], "val"),
        ("Train", ["train", "val"], "train"),
        ("TEST", ["testing", "val"], "testing"),
        ("test", ["test2017", "test-dev2017"], "test2017"),
        ("trainval", ["train", "trainval"], "trainval"),
        ("train", ["trainval", "instances_train"], "instances_train"),
        ("fold3", ["fold1", "fold3"], "fold3"),
        (None, ["train"], "train"),
    ],
)
def test_split_names(wanted: str | None, names: list[str], chosen: str) -> None:
    assert choose_split(wanted, dict.fromkeys(names, _never), "d") == chosen


@pytest.mark.parametrize(
    ("wanted", "names", "message", "hint"),
    [
        ("tain", ["train", "val"], "no split tain; it has train, val", "did you mean train"),
        ("val", ["train", "trainval"], "no split val; it has train, trainval", "did you mean|--split"),
        ("trainval", ["train", "val"], "no split trainval", "did you mean train"),
        (None, ["train", "val"], "several splits: train, val", "--split"),
        ("val", ["val-a", "val-b"], "several splits that val may mean: val-a, val-b", "one of these"),
        ("val", ["all"], "not divided into splits", "leave --split out"),
        # `fcos train` has no --split: there the recipe's keys choose.
        ("val", ["train2017"], "no split val; it has train2017", "data.val_split"),
        ("train", ["all"], "not divided into splits", "data.train_split=all"),
    ],
)
def test_wrong_splits(wanted: str | None, names: list[str], message: str, hint: str) -> None:
    with pytest.raises(DataError, match=message) as caught:
        choose_split(wanted, dict.fromkeys(names, _never), "d")
    assert any(part in caught.value.hint for part in hint.split("|"))


def test_meaning_of_names() -> None:
    names = ["train2017", "instances_valid", "Testing", "trainval", "minival2014", "train_val", "fold1"]
    assert [meaning(name) for name in names] == ["train", "val", "test", None, None, None, None]


def test_annotation_file(tmp_path: Path) -> None:
    coco_layout(tmp_path / "c")
    for split in (None, "val", "train"):
        assert len(open_data("c/annotations/instances_train2017.json", split).boxes) == 2
    (tmp_path / "notes.md").write_text("x")
    with pytest.raises(DataError, match=r"notes\.md: not a data set"):
        open_data("notes.md")


def test_each_layout_is_recognised(tmp_path: Path) -> None:
    coco_layout(tmp_path / "coco")
    (tmp_path / "voc" / "Annotations").mkdir(parents=True)
    (tmp_path / "voc" / "Annotations" / "a.xml").write_text("<annotation></annotation>")
    image(tmp_path / "yolo" / "images" / "val" / "a.jpg")
    (tmp_path / "yolo" / "labels" / "val").mkdir(parents=True)
    (tmp_path / "yolo" / "data.yaml").write_text("train: images/val\nval: images/val\nnames: [a]")
    image(tmp_path / "photos" / "x" / "a.jpg")
    found = {name: find_splits(name) for name in ("coco", "voc", "yolo", "photos")}
    assert {name: (layout, list(splits)) for name, (layout, splits) in found.items()} == {
        "coco": ("COCO", ["train2017", "val2017"]),
        "voc": ("Pascal VOC", ["all"]),
        "yolo": ("YOLO", ["train", "val"]),
        "photos": ("images", ["all"]),
    }
    assert find_splits("yolo/data.yaml")[0] == "YOLO"
    assert open_data("yolo/data.yaml", "val").categories.names == ("a",)
    assert len(open_data("photos/x/a.jpg")) == 1
    assert not open_data("photos").annotated


def test_known_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for place in ("data/b", "data/a", "datasets/a", "datasets/.hidden", "mine/b"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.setenv("FCOS_DATA", "mine")
    assert {name: str(path) for name, path in known_names().items()} == {"b": "mine/b", "a": "data/a"}


def test_real_data_sets(shared_data: Path) -> None:
    assert len(open_data(str(shared_data / "coco128"))) == 128
    train = open_data(str(shared_data / "coco128"), "train")
    assert (len(train.boxes), int(train.crowd.sum())) == (939, 10)
    assert train.read(0).shape[:2] == tuple(train.sizes[0][::-1])
    with pytest.raises(DataError, match="no split val; it has train2017"):
        open_data(str(shared_data / "coco128"), "val")
    assert len(open_data(str(shared_data / "bccd"), "val")) == 87
    with pytest.raises(DataError, match="several splits: train, val, test, trainval"):
        open_data(str(shared_data / "bccd"))
    boxes = open_data(str(shared_data / "coco_val2017_boxes.json"))
    assert len(boxes.boxes) == 36781
    with pytest.raises(DataError, match="no such image"):
        boxes.read(0)


def test_subset_of_a_real_data_set_keeps_boxes_with_images(shared_data: Path) -> None:
    data = open_data(str(shared_data / "bccd"), "test")
    part = data.subset([5, 2])
    assert part.image_ids.tolist() == [data.image_ids[5], data.image_ids[2]]
    np.testing.assert_array_equal(part.boxes[part.rows(0)], data.boxes[data.rows(5)])
    np.testing.assert_array_equal(part.boxes[part.rows(1)], data.boxes[data.rows(2)])
    np.testing.assert_array_equal(part.read(1), data.read(2))


def _fail() -> None:
    raise AssertionError("choosing a split must not open it")


_never = Split(open=_fail, count=_fail)


def test_the_folder_of_the_images_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    (tmp_path / "photos" / "june").mkdir(parents=True)
    Image.new("RGB", (20, 10)).save(tmp_path / "photos" / "june" / "1.png")
    images = [{"id": number, "file_name": f"C:\\old\\{number}.png"} for number in (1, 2)]
    annotations = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}]
    content = {"images": images, "categories": [{"id": 1, "name": "a"}], "annotations": annotations}
    (tmp_path / "set" / "all.json").write_text(json.dumps(content))
    data = open_data(str(tmp_path / "set"), image_dir=tmp_path / "photos")
    assert data.path(0) == tmp_path / "photos" / "june" / "1.png"
    assert data.sizes.tolist() == [[20, 10], [0, 0]]
    (lost,) = data.findings
    assert (lost.kind, lost.count) == (NOT_FOUND, 1)
    with pytest.raises(DataError, match=r"none of the 2 images .* looked for"):
        open_data(str(tmp_path / "set"), image_dir=tmp_path / "set")
    with pytest.raises(DataError, match="no folder of images"):
        open_data(str(tmp_path / "set"), image_dir=tmp_path / "nowhere")
