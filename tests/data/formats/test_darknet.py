"""Darknet's files, and CVAT's YOLO 1.1, made by hand."""

import pytest

from fcos_cli.data.datasets import find_splits, open_data
from fcos_cli.errors import DataError


@pytest.fixture
def cvat(made):
    """As CVAT exports it: the paths count from Darknet's own folder."""
    made.image("obj_train_data/a.jpg", "obj_train_data/b.jpg", "obj_Validation_data/c.jpg")
    made.text("obj_train_data/a.txt", "1 0.5 0.5 0.25 0.5\n0 0.25 0.25 0.1 0.2\n")
    made.text("obj_train_data/b.txt", "")
    made.text("obj_Validation_data/c.txt", "0 0.5 0.5 1 1\n")
    made.text("train.txt", "data/obj_train_data/a.jpg\ndata/obj_train_data/b.jpg\n")
    made.text("valid.txt", "data/obj_Validation_data/c.jpg\n")
    made.text("obj.names", "cat\ndog\n")
    made.text(
        "obj.data", "classes = 2\ntrain = data/train.txt\nvalid=data/valid.txt\nnames = data/obj.names\n# x = y\n"
    )
    return made


def test_paths_of_the_machine_that_wrote_them(cvat, listed):
    for spec in (cvat.root, cvat.root / "obj.data"):
        layout, splits = find_splits(str(spec))
        assert (layout, {name: split.count() for name, split in splits.items()}) == (
            "Darknet",
            {"train": 2, "valid": 1},
        )
        train, val = open_data(str(spec), "train"), open_data(str(spec), "val")
        assert listed(train) == {
            "obj_train_data/a.jpg": [("dog", 60, 30, 100, 90), ("cat", 32, 18, 48, 42)],
            "obj_train_data/b.jpg": [],
        }
        assert listed(val) == {"obj_Validation_data/c.jpg": [("cat", 0, 0, 160, 120)]}
        assert val.categories == train.categories


def test_names_and_lists_without_obj_data(cvat):
    (cvat.root / "obj.data").unlink()
    (cvat.root / "valid.txt").rename(cvat.root / "test.txt")
    cvat.text("notes.txt", "train this well\n")
    assert list(find_splits(str(cvat.root))[1]) == ["train", "test"]
    assert len(open_data(str(cvat.root), "train").boxes) == 2


@pytest.mark.parametrize(
    ("file", "content", "message"),
    [
        ("obj.data", "train = data/train.txt\nnames = data/none.names\n", "no file of class names .*none.names"),
        ("obj.data", "names = obj.names\n", "names no list of images"),
        ("obj.data", "names = obj.names\ntrain = data/none.txt", "no list of images .*none.txt"),
    ],
)
def test_what_is_wrong_is_named(cvat, file, content, message):
    cvat.text(file, content)
    with pytest.raises(DataError, match=message):
        open_data(str(cvat.root), "train")
