"""What a report finds, on data made to have each fault."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from fcos_cli.data.check import (
    OTHER_CLASSES,
    OTHER_CLASSES_TRAINED,
    SHARED,
    BrokenImage,
    ClassCount,
    check_data,
    check_together,
)
from fcos_cli.data.datasets import open_data
from fcos_cli.data.findings import Weight
from fcos_cli.data.formats.coco import read_coco
from fcos_cli.data.loading.loader import trainable_images
from fcos_cli.data.sources.files import image_files
from fcos_cli.errors import DataError


def write(folder: Path, annotations: list[tuple[int, int, list[float], int]], **changes: Any) -> Path:
    """Images 1 to 3 of 100x50 (3 does not exist), classes cat, dog, Cat; annotations: image, class, xywh, crowd."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("1.jpg", "2.jpg"):
        Image.new("RGB", (100, 50)).save(folder / name)
    content = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 100, "height": 50} for i in (1, 2, 3)],
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}, {"id": 3, "name": "Cat"}],
        "annotations": [
            {"id": k + 1, "image_id": i, "category_id": c, "bbox": box, "iscrowd": crowd}
            for k, (i, c, box, crowd) in enumerate(annotations)
        ],
        **changes,
    }
    path = folder / "boxes.json"
    path.write_text(json.dumps(content))
    return path


def test_sound_data_has_no_findings(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "1.jpg", "width": 100, "height": 50}]
    categories = [{"id": 1, "name": "cat"}]
    path = write(tmp_path, [(1, 1, [0, 0, 100, 50], 0)], images=images, categories=categories)
    report = check_data(read_coco(path), decode=True)
    assert report.errors == []
    assert report.warnings == []
    assert report.decoded


def test_counts(tmp_path: Path) -> None:
    boxes = [(1, 1, [0, 0, 20, 20], 0), (1, 1, [5, 5, 20, 7], 0), (2, 1, [0, 0, 9, 9], 0), (2, 2, [0, 0, 50, 50], 1)]
    report = check_data(read_coco(write(tmp_path, [*boxes, (2, 2, [1, 1, 0, 1], 0)])))
    assert (report.images, report.boxes, report.crowd, report.empty_images) == (3, 4, 1, 1)
    assert report.classes == [ClassCount(1, "cat", 3, 2), ClassCount(2, "dog", 0, 0), ClassCount(3, "Cat", 0, 0)]
    assert report.dropped == {"boxes with a side of zero or less": 1}
    assert (report.below_1px, report.below_8px) == (0, 1)
    assert not report.decoded
    assert any("2 classes are without a box: dog, Cat" in line for line in report.warnings)
    assert any("differ only in case" in line for line in report.warnings)
    assert any("left out: boxes with a side of zero or less (1)" in line for line in report.warnings)


def test_boxes_outside_the_image(tmp_path: Path) -> None:
    boxes = [
        [-0.9, 0, 100, 50.9],  # rounding: within a pixel
        [-1.5, 0, 10, 10],
        [95, 0, 10, 10],
        [0, 45, 10, 10],
        [100, 0, 5, 5],
        [-6, 0, 6, 5],
        [0, 70, 5, 5],
    ]
    report = check_data(read_coco(write(tmp_path, [(1, 1, box, 0) for box in boxes])))
    assert (report.outside, report.far_outside) == (6, 3)
    assert "3 boxes are outside the image entirely" in report.warnings
    assert "3 boxes are partly outside the image" in report.warnings


def test_repeated_and_tiny_boxes(tmp_path: Path) -> None:
    boxes = [(1, 1, [1, 1, 10, 10], 0)] * 3 + [
        (1, 2, [1, 1, 10, 10], 0),
        (2, 1, [1, 1, 10, 10], 0),
        (2, 1, [1, 1, 9, 0.5], 0),
    ]
    report = check_data(read_coco(write(tmp_path, boxes)))
    assert (report.duplicates, report.below_1px, report.below_8px) == (2, 1, 1)
    assert "2 boxes are repeated exactly" in report.warnings
    assert "1 box is less than a pixel wide or high" in report.warnings


def test_missing_and_broken_images(tmp_path: Path) -> None:
    data = read_coco(write(tmp_path, [(1, 1, [0, 0, 5, 5], 0)]))
    assert check_data(data).errors == [f"1 image file is missing in {tmp_path} and everything below: 3.jpg"]
    (tmp_path / "1.jpg").write_bytes(b"")
    Image.new("RGB", (64, 32)).save(tmp_path / "2.jpg")
    assert len(check_data(data).errors) == 1
    steps: list[int] = []
    report = check_data(data, decode=True, advance=steps.append)
    assert report.missing == ["3.jpg"]
    assert [image.name for image in report.broken] == ["1.jpg", "2.jpg"]
    assert "empty" in report.broken[0].reason
    assert "64x32 pixels but its annotation says 100x50" in report.broken[1].reason
    assert steps == [1, 1]
    assert len(report.errors) == 3
    (tmp_path / "1.jpg").unlink()
    (tmp_path / "2.jpg").unlink()
    assert check_data(data).errors == [
        f"none of the images is in {tmp_path} and everything below (looked for 1.jpg): "
        "name their folder with --image-dir DIR"
    ]


def test_data_with_nothing_to_learn(tmp_path: Path) -> None:
    path = write(tmp_path, [], images=[])
    assert check_data(read_coco(path)).errors == ["there are no images"]
    report = check_data(read_coco(write(tmp_path, [])))
    assert any("there are no boxes" in line for line in report.errors)


def test_boxes_that_are_all_ignored_are_an_error_as_they_are_of_training(tmp_path: Path) -> None:
    data = read_coco(write(tmp_path, [(1, 1, [0, 0, 5, 5], 1), (2, 2, [0, 0, 5, 5], 1)]))
    assert any("all boxes are crowd or difficult" in line for line in check_data(data).errors)
    with pytest.raises(DataError, match="no boxes to learn"):
        trainable_images(data, skip_empty=False)


def test_bare_images(tmp_path: Path) -> None:
    write(tmp_path, [])
    report = check_data(image_files([str(tmp_path)]), decode=True)
    assert (report.images, report.boxes, report.annotated) == (2, 0, False)
    assert report.errors == report.warnings == []


def test_json_is_plain(tmp_path: Path) -> None:
    report = check_data(read_coco(write(tmp_path, [(1, 1, [0, 0, 5, 5], 0)])), decode=True)
    (tmp_path / "1.jpg").write_bytes(b"")
    content = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert content["classes"][0] == {"id": 1, "name": "cat", "boxes": 1, "images": 1}
    assert content["errors"] == report.errors
    broken = BrokenImage("a", "b")._asdict()
    assert broken == {"name": "a", "reason": "b"}


def test_between_splits(tmp_path: Path) -> None:
    path = write(tmp_path / "a", [(1, 1, [0, 0, 5, 5], 0)])
    other = write(tmp_path / "b", [], categories=[{"id": 1, "name": "cow"}])
    train, val = read_coco(path), read_coco(other)
    (differ,) = check_together({"train": train, "val": val})
    assert (differ.kind, differ.examples) == (OTHER_CLASSES_TRAINED, ("train and val",))
    assert differ.kind.weight is Weight.ERROR
    (differ,) = check_together({"train": train, "test": val})
    assert (differ.kind, differ.kind.weight) == (OTHER_CLASSES, Weight.WARNING)
    (shared,) = check_together({"train": train, "val": train.subset([2, 0])})
    assert (shared.kind, shared.count) == (SHARED, 2)
    assert shared.examples == ("train and val: 1.jpg", "train and val: 3.jpg")
    assert check_together({"train": train, "trainval": train}) == ()


def test_real_data(shared_data: Path) -> None:
    report = check_data(open_data(str(shared_data / "coco128")), decode=True)
    assert report.errors == []
    assert (report.images, report.boxes, report.crowd) == (128, 939, 10)
    person = next(item for item in report.classes if item.name == "person")
    annotations = json.loads((shared_data / "coco128/annotations/instances_train2017.json").read_text())["annotations"]
    people = [a["image_id"] for a in annotations if a["category_id"] == 1 and not a["iscrowd"]]
    assert (person.boxes, person.images) == (len(people), len(set(people)))


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_bccd(shared_data: Path, split: str) -> None:
    report = check_data(open_data(str(shared_data / "bccd"), split))
    assert report.errors == []
    assert report.outside == 0


@pytest.mark.parametrize(("wrong", "said"), [(3, True), (2, False), (1, False)])
def test_corners_where_width_and_height_belong(tmp_path: Path, wrong: int, said: bool) -> None:
    boxes = [[60, 10, 90, 45] if number < wrong else [60, 10, 30, 35] for number in range(4)]
    report = check_data(read_coco(write(tmp_path, [(1, 1, box, 0) for box in boxes])))
    assert any("these look like x1 y1 x2 y2" in line for line in report.warnings) == said


def test_a_name_that_no_file_can_have_is_one_short_line(tmp_path: Path) -> None:
    images = [{"id": 1, "file_name": "ä" * 200 + ".jpg", "width": 100, "height": 50}]
    categories = [{"id": 1, "name": "cat"}]
    report = check_data(read_coco(write(tmp_path, [(1, 1, [0, 0, 5, 5], 0)], images=images, categories=categories)))
    (line,) = report.errors
    assert "(404 bytes)" in line
    assert len(line) < 400 + 3 * len(str(tmp_path))
