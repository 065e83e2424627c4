"""COCO files against values written by hand, and against COCO's own published counts."""

import json
import time
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from fcos_cli.data.check import check_data
from fcos_cli.data.findings import Finding, Kind, Weight
from fcos_cli.data.formats.assemble import NO_AREA, NO_SIZE, NOT_FINITE
from fcos_cli.data.formats.coco import NO_SUCH_CLASS, NO_SUCH_IMAGE, TWICE, coco_splits, find_image_root, read_coco
from fcos_cli.data.formats.coco_file import (
    MISNAMED,
    NO_ANNOTATIONS,
    NO_CATEGORY,
    NO_IDS,
    NO_IMAGE,
    ODD_IDS,
    OTHER_NAME,
)
from fcos_cli.data.formats.finding import ELSEWHERE, NOT_FOUND
from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError


def odd(data: DetectionData) -> tuple[Finding, ...]:
    """What was found, apart from images that the tests do not draw."""
    return tuple(finding for finding in data.findings if finding.kind is not NOT_FOUND)


def small() -> dict[str, Any]:
    """Three images, categories with gaps and out of order, a crowd, integer and float boxes."""
    return {
        "images": [
            {"id": 30, "file_name": "c.jpg", "width": 100, "height": 50},
            {"id": 10, "file_name": "a.jpg", "width": 640, "height": 480},
            {"id": 20, "file_name": "sub\\b.jpg", "width": 10, "height": 20},
        ],
        "categories": [{"id": 90, "name": "toothbrush"}, {"id": 1, "name": "person"}, {"id": 44, "name": "bottle"}],
        "annotations": [
            {"id": 7, "image_id": 10, "category_id": 90, "bbox": [1, 2, 3, 4], "area": 5.5, "iscrowd": 0},
            {"id": 3, "image_id": 30, "category_id": 44, "bbox": [0.5, 0.25, 10.5, 20], "iscrowd": 1},
            {"id": 9, "image_id": 10, "category_id": 1, "bbox": [-3.5, 0, 10, 10], "segmentation": [[1, 2, 3]]},
        ],
    }


def write(path: Path, content: Any) -> Path:
    path.write_text(json.dumps(content))
    return path


def test_columns(tmp_path: Path) -> None:
    data = read_coco(write(tmp_path / "a.json", small()))
    assert data.categories.ids == (1, 44, 90)
    assert data.categories.names == ("person", "bottle", "toothbrush")
    assert data.image_ids.tolist() == [30, 10, 20]
    assert list(data.file_names) == ["c.jpg", "a.jpg", "sub/b.jpg"]
    assert data.sizes.tolist() == [[100, 50], [640, 480], [10, 20]]
    assert data.offsets.tolist() == [0, 1, 3, 3]
    assert data.boxes.tolist() == [[0.5, 0.25, 11, 20.25], [1, 2, 4, 6], [-3.5, 0, 6.5, 10]]
    assert data.labels.tolist() == [1, 2, 0]
    assert data.crowd.tolist() == [True, False, False]
    assert data.areas.tolist() == [210, 5.5, 100]
    assert data.box_ids.tolist() == [3, 7, 9]
    assert data.annotated
    assert data.dropped == {}
    types = (data.sizes, data.boxes, data.labels, data.crowd, data.areas, data.box_ids, data.offsets, data.image_ids)
    assert [column.dtype.name for column in types] == [
        "int32", "float64", "int32", "bool", "float64", "int64", "int64", "int64",
    ]  # fmt: skip


def test_useless_boxes_are_dropped_and_counted(tmp_path: Path) -> None:
    content = small()
    bad = [[0, 0, 0, 5], [0, 0, 5, -1], [float("nan"), 0, 5, 5], [0, 0, float("inf"), 5], [None, 0, 5, 5], None]
    content["annotations"] += [{"id": 100 + i, "image_id": 20, "category_id": 1, "bbox": b} for i, b in enumerate(bad)]
    content["annotations"].append({"id": 200, "image_id": 20, "category_id": 1})
    data = read_coco(write(tmp_path / "a.json", content))
    assert len(data.boxes) == 3
    assert data.dropped == {
        "boxes with a side of zero or less": 2,
        "boxes with NaN, infinite or missing coordinates": 5,
    }


@pytest.mark.parametrize("ids", [[1, 1, 2], [0, 1, 2], [None, 1, 2]])
def test_box_ids_that_cannot_be_used_are_made_anew(tmp_path: Path, ids: list[int | None]) -> None:
    content = small()
    for annotation, box_id in zip(content["annotations"], ids, strict=True):
        annotation["id"] = box_id
        if box_id is None:
            del annotation["id"]
    assert read_coco(write(tmp_path / "a.json", content)).box_ids.tolist() == [2, 1, 3]


def test_odd_but_harmless_values(tmp_path: Path) -> None:
    content = small()
    content["images"][0]["width"] = 100.0
    content["annotations"][1]["iscrowd"] = True
    content["annotations"][0]["area"] = None
    path = tmp_path / "a.json"
    path.write_bytes(b"\xef\xbb\xbf" + json.dumps(content).encode())
    data = read_coco(path)
    assert data.sizes[0].tolist() == [100, 50]
    assert data.crowd.tolist() == [True, False, False]
    assert data.areas.tolist() == [210, 12, 100]


def test_missing_sizes_come_from_the_files(tmp_path: Path) -> None:
    content = small()
    for image in content["images"]:
        del image["width"]
    Image.new("RGB", (31, 17)).save(tmp_path / "a.jpg")
    data = read_coco(write(tmp_path / "a.json", content))
    assert data.sizes.tolist() == [[0, 0], [31, 17], [0, 0]]


def test_file_without_annotations(tmp_path: Path) -> None:
    content = small()
    del content["annotations"]
    data = read_coco(write(tmp_path / "a.json", content))
    assert not data.annotated
    assert len(data) == 3
    assert data.boxes.shape == (0, 4)
    content["annotations"] = []
    assert read_coco(write(tmp_path / "a.json", content)).annotated


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c["images"].append({"id": 10, "file_name": "x"}), "1 image ids are used more than once: 10"),
        (lambda c: c["categories"].append({"id": 44, "name": "x"}), "1 category ids are used more than once: 44"),
        (
            lambda c: [i.update(id=i["file_name"]) for i in c["images"]],
            r"Expected `int`, got `str` - at `\$\.images\[0\]",
        ),
        (lambda c: c["images"][0].update(id=1 << 60), "below 2"),
        (lambda c: c.pop("categories"), "missing required field `categories`"),
    ],
)
def test_contradictions_name_what_is_wrong(tmp_path: Path, change, message: str) -> None:
    content = small()
    change(content)
    path = write(tmp_path / "wrong.json", content)
    with pytest.raises(DataError, match=message) as caught:
        read_coco(path)
    assert caught.value.message.startswith(str(path))


LEFT_OUT = [
    (lambda c: c["annotations"][0].update(image_id=77), NO_SUCH_IMAGE, "annotation 7: 77"),
    (lambda c: c["annotations"][0].update(image_id=1 << 60), NO_SUCH_IMAGE, f"annotation 7: {1 << 60}"),
    (lambda c: c["annotations"][0].update(category_id=8), NO_SUCH_CLASS, "annotation 7: 8"),
    (lambda c: c["annotations"][0].update(bbox=[]), NOT_FINITE, "annotation 7"),
    (lambda c: c["annotations"][0].update(bbox=None), NOT_FINITE, "annotation 7"),
    (lambda c: c["annotations"][0].update(bbox=[1, 2, 3]), NOT_FINITE, "annotation 7"),
    (lambda c: c["annotations"][0].update(bbox=[1, 2, 3, "wide"]), NOT_FINITE, "annotation 7"),
    (lambda c: c["annotations"][0].update(bbox={"x": 1}), NOT_FINITE, "annotation 7"),
    (lambda c: c["annotations"][0].update(bbox=[1, 2, float("nan"), 4]), NOT_FINITE, "annotation 7"),
    (lambda c: c["annotations"][0].update(bbox=[1, 2, float("inf"), 4]), NOT_FINITE, "annotation 7"),
    (lambda c: c["annotations"][0].update(bbox=[1, 2, 0, 4]), NO_AREA, "annotation 7"),
    (lambda c: c["annotations"][0].pop("category_id"), NO_IDS, "annotation 7"),
    (lambda c: c["annotations"][0].update(image_id="a"), NO_IDS, "annotation 7"),
    (lambda c: c["annotations"][0].update(image_id=1.5), NO_IDS, "annotation 7"),
]


@pytest.mark.parametrize(("change", "kind", "example"), LEFT_OUT)
def test_an_annotation_that_cannot_be_used_is_left_out(tmp_path: Path, change, kind: Kind, example: str) -> None:
    content = small()
    change(content)
    data = read_coco(write(tmp_path / "a.json", content))
    assert data.box_ids.tolist() == [3, 9]
    assert odd(data) == (Finding(kind, 1, (example,)),)


@pytest.mark.parametrize(
    ("change", "kind", "example"),
    [
        (lambda c: c["images"][0].update(id=30.0), ODD_IDS, "image 30.0"),
        (lambda c: c["categories"][0].update(id="90"), ODD_IDS, 'category "90"'),
        (lambda c: c["annotations"][0].update(image_id=10.0), ODD_IDS, "image 10.0"),
        (lambda c: c["images"][1].update(filename=c["images"][1].pop("file_name")), OTHER_NAME, "a.jpg"),
        (lambda c: c["images"].append(dict(c["images"][1])), TWICE, "image 10"),
        (lambda c: c["categories"].append(dict(c["categories"][1])), TWICE, "category 1"),
        (lambda c: c["images"].append({"id": "x", "file_name": "x.jpg"}), NO_IMAGE, "entry 4"),
        (lambda c: c["images"].append({"id": 5}), NO_IMAGE, "entry 4"),
        (lambda c: c["categories"].append({"id": 5}), NO_CATEGORY, "entry 4"),
    ],
)
def test_odd_entries_leave_the_rest_as_it_is(tmp_path: Path, change, kind: Kind, example: str) -> None:
    content = small()
    usual = read_coco(write(tmp_path / "a.json", content))
    change(content)
    data = read_coco(write(tmp_path / "a.json", content))
    assert odd(data) == (Finding(kind, 1, (example,)),)
    assert data.image_ids.tolist() == usual.image_ids.tolist()
    assert data.categories == usual.categories
    np.testing.assert_array_equal(data.boxes, usual.boxes)
    np.testing.assert_array_equal(data.crowd, usual.crowd)
    np.testing.assert_array_equal(data.areas, usual.areas)


@pytest.mark.parametrize("width", [float("nan"), float("inf"), -5, 1e12, 10**400, "wide"])
def test_sizes_that_are_none_come_from_the_image(tmp_path: Path, width: object) -> None:
    content = small()
    content["images"][0]["width"] = width
    Image.new("RGB", (33, 44)).save(tmp_path / "c.jpg")
    data = read_coco(write(tmp_path / "a.json", content))
    assert data.sizes.tolist()[0] == [33, 44]
    assert [finding.kind for finding in odd(data)] == [NO_SIZE]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-8-sig"])
def test_other_encodings(tmp_path: Path, encoding: str) -> None:
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").write_bytes(json.dumps(small()).encode(encoding))
    assert coco_splits(tmp_path)["train"].open().box_ids.tolist() == [3, 7, 9]


def test_annotations_under_another_key_are_an_error(tmp_path: Path) -> None:
    content = small()
    content["annotation"] = content.pop("annotations")
    data = read_coco(write(tmp_path / "a.json", content))
    assert odd(data) == (Finding(MISNAMED, 1, ("a.json: `annotation`",)),)
    assert MISNAMED.weight is Weight.ERROR
    del content["annotation"]
    assert odd(read_coco(write(tmp_path / "a.json", content))) == (Finding(NO_ANNOTATIONS, 1, ("a.json",)),)


def test_other_json_files_are_no_splits(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    write(tmp_path / "annotations" / "train.json", small())
    write(tmp_path / "annotations" / "dataset_meta.json", {"name": "mine", "images": 3})
    assert list(coco_splits(tmp_path)) == ["train"]


@pytest.mark.parametrize("name", ["a" * 300 + ".jpg", "a\0b.jpg", "x/" * 3000 + "a.jpg", ""])
def test_names_that_no_file_can_have(tmp_path: Path, name: str) -> None:
    content = small()
    content["images"][0]["file_name"] = name or "."
    data = read_coco(write(tmp_path / "a.json", content))
    with pytest.raises(DataError) as caught:
        data.read(0)
    assert "\n" not in caught.value.message
    assert check_data(data).missing == list(data.file_names)


@pytest.mark.parametrize(
    "written",
    [
        "/home/somebody/data/photos/1.png",
        "C:\\Users\\me\\photos\\1.png",
        "../../media/1.png",
        "https://host.example/set/photos/1.png?x=1",
        "/data/upload/3/0a1b2c3d-1.png",
        "/data/local-files/?d=photos/1.png",
        "PHOTOS/1.PNG",
        "1.png",
    ],
)
def test_images_that_lie_elsewhere_are_found_and_said(tmp_path: Path, written: str) -> None:
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (20, 10)).save(tmp_path / "photos" / "1.png")
    content = {"images": [{"id": 1, "file_name": written}], "categories": [], "annotations": []}
    data = read_coco(write(tmp_path / "result.json", content))
    assert data.path(0) == tmp_path / "photos" / "1.png"
    assert data.sizes.tolist() == [[20, 10]]
    assert [finding.kind for finding in data.findings] == [ELSEWHERE]


@pytest.mark.parametrize(("written", "stored"), [("NFC", "NFD"), ("NFD", "NFC")])
def test_names_in_another_unicode_form(tmp_path: Path, written: str, stored: str) -> None:
    name = "h\u00e4user.png"
    Image.new("RGB", (20, 10)).save(tmp_path / unicodedata.normalize(stored, name))
    image = {"id": 1, "file_name": unicodedata.normalize(written, name)}
    data = read_coco(write(tmp_path / "a.json", {"images": [image], "categories": [], "annotations": []}))
    assert data.read(0).shape == (10, 20, 3)


def test_places_are_listed_where_nothing_is_found(tmp_path: Path) -> None:
    data = read_coco(write(tmp_path / "a.json", small()))
    assert data.findings == (Finding(NOT_FOUND, 3, (f"{tmp_path} and everything below",)),)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (b"", "empty"),
        (b"  \n", "empty"),
        (json.dumps(small()).encode()[:300], "ends in the middle"),
        (b"version https://git-lfs", "not valid JSON"),
        (b'[{"image_id": 42, "category_id": 18, "bbox": [1, 2, 3, 4], "score": 0.2}]', "predictions"),
        (b'{"images": [], "x": NaN', "not valid JSON"),
    ],
)
def test_files_that_are_no_coco_files(tmp_path: Path, raw: bytes, message: str) -> None:
    path = tmp_path / "wrong.json"
    path.write_bytes(raw)
    with pytest.raises(DataError, match=message) as caught:
        read_coco(path)
    assert str(path) in caught.value.message
    assert caught.value.hint
    with pytest.raises(DataError, match="no such file"):
        read_coco(tmp_path / "absent.json")


@pytest.mark.parametrize(
    ("annotation_file", "image_folder"),
    [
        ("annotations/instances_train2017.json", "train2017"),
        ("annotations/instances_val2017.json", "images/val2017"),
        ("annotations/instances_val2017.json", "val"),
        ("annotations/all.json", "images"),
        ("train/_annotations.coco.json", "train"),
        ("boxes.json", "images"),
        ("annotations/boxes.json", "."),
    ],
)
def test_image_folder_is_found(tmp_path: Path, annotation_file: str, image_folder: str) -> None:
    for folder in ((tmp_path / annotation_file).parent, tmp_path / image_folder):
        folder.mkdir(parents=True, exist_ok=True)
    (tmp_path / image_folder / "b.jpg").write_bytes(b"x")
    assert find_image_root(tmp_path / annotation_file, ["a.jpg", "b.jpg", "c.jpg"]) == tmp_path / image_folder


def test_images_that_are_nowhere_fail_when_read(tmp_path: Path) -> None:
    data = read_coco(write(tmp_path / "a.json", small()))
    assert data.root == tmp_path
    with pytest.raises(DataError, match=r"c\.jpg: no such image"):
        data.read(0)


def test_splits_of_a_folder(tmp_path: Path) -> None:
    folder = tmp_path / "annotations"
    folder.mkdir()
    names = (
        "instances_train2017",
        "instances_val2017",
        "captions_val2017",
        "person_keypoints_val2017",
        "panoptic_val2017",
    )
    for name in names:
        write(folder / f"{name}.json", small())
    splits = coco_splits(tmp_path)
    assert sorted(splits) == ["train2017", "val2017"]
    assert splits["val2017"].count() == 3
    assert len(splits["val2017"].open().boxes) == 3


def test_roboflow_folders_and_loose_files(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        (tmp_path / "a" / split).mkdir(parents=True)
        write(tmp_path / "a" / split / "_annotations.coco.json", small())
    assert sorted(coco_splits(tmp_path / "a")) == ["train", "valid"]
    (tmp_path / "b").mkdir()
    write(tmp_path / "b" / "boxes.json", small())
    write(tmp_path / "b" / "settings.json", {"a": 1})
    write(tmp_path / "b" / "predictions.json", [{"image_id": 1}])
    assert list(coco_splits(tmp_path / "b")) == ["boxes"]


def test_a_20_mb_file_takes_less_than_a_second(tmp_path: Path) -> None:
    """The size of instances_val2017.json: 5,000 images, 36,781 boxes, 20 MB, most of it segmentations."""
    images = [{"id": i, "file_name": f"{i:012d}.jpg", "width": 640, "height": 480} for i in range(5000)]
    polygon = [[round(1.37 * k, 2) for k in range(60)]]
    annotations = [
        {"id": i + 1, "image_id": i % 5000, "category_id": i % 80 + 1, "bbox": [i % 600 + 0.5, 2.25, 30.5, 40],
         "iscrowd": 0, "area": 700.5, "segmentation": polygon}
        for i in range(36781)
    ]  # fmt: skip
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": i, "name": str(i)} for i in range(1, 81)],
    }
    path = write(tmp_path / "instances_val2017.json", content)
    assert path.stat().st_size > 18e6
    fastest = np.inf
    for _ in range(3):
        start = time.perf_counter()
        data = read_coco(path)
        fastest = min(fastest, time.perf_counter() - start)
    assert len(data.boxes) == 36781
    assert data.boxes[data.rows(7)][0].tolist() == [7.5, 2.25, 38, 42.25]
    assert fastest < 1.0


def test_val2017_counts(shared_data: Path) -> None:
    path = shared_data / "coco_val2017_boxes.json"
    data = read_coco(path)
    raw = json.loads(path.read_text())
    assert (len(data), len(data.boxes), int(data.crowd.sum()), len(data.categories)) == (5000, 36781, 446, 80)
    assert int((np.diff(data.offsets) == 0).sum()) == 48
    assert data.categories.ids[-1] == 90
    by_id = {annotation["id"]: annotation for annotation in raw["annotations"]}
    for index in (0, 1234, 4999):
        for row in range(*data.rows(index).indices(len(data.boxes))):
            annotation = by_id[int(data.box_ids[row])]
            x, y, w, h = annotation["bbox"]
            assert annotation["image_id"] == data.image_ids[index]
            assert data.categories.ids[data.labels[row]] == annotation["category_id"]
            np.testing.assert_allclose(data.boxes[row], [x, y, x + w, y + h])
            assert data.areas[row] == annotation["area"]


def test_same_boxes_as_pycocotools(shared_data: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    path = shared_data / "coco128" / "annotations" / "instances_train2017.json"
    reference = coco.COCO(str(path))
    data = read_coco(path)
    assert data.root == shared_data / "coco128" / "train2017"
    assert data.read(5).shape[:2] == tuple(data.sizes[5][::-1])
    for index, image_id in enumerate(data.image_ids):
        annotations = sorted(reference.loadAnns(reference.getAnnIds(imgIds=[image_id])), key=lambda a: a["id"])
        rows = data.rows(index)
        order = np.argsort(data.box_ids[rows])
        expected = np.array([a["bbox"] for a in annotations]).reshape(-1, 4)
        found = data.boxes[rows][order]
        np.testing.assert_allclose(np.hstack([found[:, :2], found[:, 2:] - found[:, :2]]), expected, atol=1e-9)
        assert data.crowd[rows][order].tolist() == [bool(a["iscrowd"]) for a in annotations]
        assert data.areas[rows][order].tolist() == [a["area"] for a in annotations]


@pytest.mark.parametrize("near", ["export", "export/images", "export/train"])
def test_of_two_folders_with_the_same_names_the_nearest_is_taken(tmp_path: Path, near: str) -> None:
    """Beside the export lie other pictures of the same names, as in a folder of everything that was ever labelled."""
    for place in ("images", "train", ".", near):
        (tmp_path / place).mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (10, 10), "white" if place == near else "black").save(tmp_path / place / "1.png")
    content = {"images": [{"id": 1, "file_name": "1.png"}], "categories": [], "annotations": []}
    (tmp_path / "export" / "train.json").write_text(json.dumps(content))
    data = read_coco(tmp_path / "export" / "train.json")
    assert data.root.resolve() == (tmp_path / near).resolve()
    assert data.read(0).min() == 255


def test_a_folder_with_more_of_the_images_wins_over_a_nearer_one(tmp_path: Path) -> None:
    """A preview beside the annotation file does not make its folder that of the images."""
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    for name in ("images/1.png", "images/2.png", "images/3.png", "annotations/2.png"):
        Image.new("RGB", (10, 10)).save(tmp_path / name)
    images = [{"id": number, "file_name": f"{number}.png"} for number in (1, 2, 3)]
    content = {"images": images, "categories": [], "annotations": []}
    (tmp_path / "annotations" / "train.json").write_text(json.dumps(content))
    assert read_coco(tmp_path / "annotations" / "train.json").root == tmp_path / "images"


def test_each_split_of_an_export_has_its_own_images(tmp_path: Path) -> None:
    """Roboflow writes one file into each split's folder; the same names come in all of them."""
    for split, colour in (("train", "black"), ("valid", "white")):
        (tmp_path / split).mkdir()
        Image.new("RGB", (10, 10), colour).save(tmp_path / split / "1.png")
        content = {"images": [{"id": 1, "file_name": "1.png"}], "categories": [], "annotations": []}
        (tmp_path / split / "_annotations.coco.json").write_text(json.dumps(content))
    splits = coco_splits(tmp_path)
    assert [splits[name].open().read(0).max() for name in ("train", "valid")] == [0, 255]
