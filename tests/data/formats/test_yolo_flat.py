"""labelImg's flat folders of YOLO files made by hand."""

import pytest

from fcos_cli.data.datasets import find_splits, open_data
from fcos_cli.errors import DataError


@pytest.fixture
def flat(made):
    made.image("a.jpg", "b.png", "c.jpg")
    made.text("a.txt", "1 0.5 0.5 0.25 0.5\n0 0.25 0.25 0.1 0.2\n")
    made.text("b.txt", "0 0.500000 5e-1 1.0 1.0")
    made.text("c.txt", "")
    made.text("classes.txt", "cat\ndog\n")
    return made


def test_label_files_beside_the_images(flat, listed):
    layout, splits = find_splits(str(flat.root))
    data = open_data(str(flat.root))
    assert (layout, splits["all"].count()) == ("YOLO", 3)
    assert listed(data) == {
        "a.jpg": [("dog", 60, 30, 100, 90), ("cat", 32, 18, 48, 42)],
        "b.png": [("cat", 0, 0, 160, 120)],
        "c.jpg": [],
    }
    assert open_data(str(flat.root), "train").root == flat.root


def test_folders_of_splits(flat):
    flat.image("set/train/x.jpg", "set/valid/y.jpg", "set/other/z.jpg")
    for name in ("train/x", "valid/y"):
        flat.text(f"set/{name}.txt", "1 0.5 0.5 0.5 0.5\n")
    flat.text("set/classes.txt", "cat\ndog\n")
    assert list(find_splits(str(flat.root / "set"))[1]) == ["train", "valid"]
    assert open_data(str(flat.root / "set"), "val").labels.tolist() == [1]


def test_without_class_names(flat, made):
    (flat.root / "classes.txt").unlink()
    with pytest.raises(DataError, match="without class names") as caught:
        open_data(str(flat.root))
    assert "classes.txt" in caught.value.hint


def test_texts_that_are_no_labels_leave_bare_images(made):
    made.image("a.jpg")
    made.text("a.txt", "a photograph of 2 dogs 1 0.5\n")
    made.text("classes.txt", "cat\n")
    assert find_splits(str(made.root))[0] == "images"


def test_roboflow_s_export_for_darknet(made, listed):
    for split in ("train", "valid"):
        made.image(f"{split}/a.jpg")
        made.text(f"{split}/a.txt", "1 0.5 0.5 0.25 0.5\n")
        made.text(f"{split}/_darknet.labels", "cat\ndog\n")
    assert list(find_splits(str(made.root))[1]) == ["train", "valid"]
    assert listed(open_data(str(made.root), "val")) == {"valid/a.jpg": [("dog", 60, 30, 100, 90)]}
