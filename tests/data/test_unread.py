"""Whatever lies in a data set's folder and was not used is named."""

import json
from pathlib import Path

import pytest
from PIL import Image

from fcos_cli.data.datasets import find_splits, findings_around, open_data
from fcos_cli.data.findings import Finding, Weight
from fcos_cli.data.unread import HIDDEN, LOST, NOT_DECODED, NOTHING_READ, PASSED_OVER, UNREAD, UNUSED


def around(folder: Path) -> list[Finding]:
    layout, splits = find_splits(str(folder))
    opened = {name: open_data(str(folder), name) for name, split in splits.items() if not split.lost}
    return list(findings_around(str(folder), layout, splits, opened))


def image(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (20, 10)).save(path)


@pytest.fixture
def coco(tmp_path: Path) -> Path:
    """One image with a box, and nothing else."""
    image(tmp_path / "images" / "a.jpg")
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 20, "height": 10}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 1, 5, 5]}],
    }
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations" / "train.json").write_text(json.dumps(content))
    return tmp_path


def test_a_sound_folder_leaves_nothing_to_say(coco: Path) -> None:
    assert around(coco) == []


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("labels/b.txt", "0 0.5 0.5 0.1 0.1", UNREAD),
        ("images/a.txt", "", UNREAD),
        ("labels/a.TXT", "0 .5 .5 1. 1e-1", UNREAD),
        ("boxes.csv", "image,x1,y1,x2,y2,class", UNREAD),
        ("old/b.XML", "<annotation/>", UNREAD),
        ("export.json", "{}", UNREAD),
        ("train.txt", "images/a.jpg", UNREAD),
        ("ImageSets/Main/cat_train.txt", "a -1\nb 1", UNREAD),
        ("classes.txt", "cat", UNREAD),
        ("wide.txt", "1 2 3 4 5".encode("utf-16"), UNREAD),
        ("annotations/captions_train.json", "{}", PASSED_OVER),
        ("annotations/._train.json", "\0\0", HIDDEN),
        ("phone.HEIC", "ftypheic", NOT_DECODED),
        ("images/other.jpg", "", UNUSED),
        ("README.dataset.txt", "1 2 3 4 5", None),
        ("LICENSE.txt", "1 2 3 4 5", None),
        ("notes.txt", "train this well, 12 times", None),
        (".hidden/b.txt", "0 0.5 0.5 0.1 0.1", None),
        ("__MACOSX/b.json", "{}", None),
        ("preds.images.json", "{}", None),
        ("photo.xmp", "<x/>", None),
    ],
)
def test_what_is_not_used_is_named(coco: Path, name: str, content: str | bytes, kind: object) -> None:
    path = coco / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    found = around(coco)
    assert [finding.kind for finding in found] == ([] if kind is None else [kind])
    if kind is not None:
        assert found[0].examples == (name,)


def test_predictions_of_the_tool_are_no_annotations(coco: Path) -> None:
    (coco / "preds.images.json").write_text("{}")
    (coco / "preds.json").write_text("[]")
    assert around(coco) == []


def test_annotations_unread_and_no_box_at_all_is_an_error(tmp_path: Path) -> None:
    image(tmp_path / "a.jpg")
    assert around(tmp_path) == []
    (tmp_path / "boxes.csv").write_text("a.jpg,1,1,5,5,cat")
    (found,) = around(tmp_path)
    assert (found.kind, found.count, found.examples) == (NOTHING_READ, 1, ("boxes.csv",))
    assert found.kind.weight is Weight.ERROR


def test_a_split_that_is_not_there_is_named_and_the_others_are_read(tmp_path: Path) -> None:
    image(tmp_path / "train" / "images" / "a.jpg")
    (tmp_path / "train" / "labels").mkdir()
    (tmp_path / "train" / "labels" / "a.txt").write_text("0 0.5 0.5 0.1 0.1")
    (tmp_path / "data.yaml").write_text("train: train/images\ntest: test/images\nnames: [a]")
    (found,) = around(tmp_path)
    assert found.kind is LOST
    assert "no folder or list of images" in found.examples[0]
