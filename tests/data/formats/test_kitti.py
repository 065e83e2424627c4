"""KITTI's folders made by hand."""

from fcos_cli.data.datasets import find_splits, open_data
from fcos_cli.data.formats.kitti import NOT_A_LINE

CAR = "Car 0.00 0 -1.57 10.5 20.25 50.00 70.00 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59"
VAN = "Person sitting 0.00 0 -1.57 1 2 30 40 1.65 1.67 3.64 -0.65 1.71 46.70 -1.59"
DONT_CARE = "DontCare -1 -1 -10 50 16 59 19 -1 -1 -1 -1000 -1000 -1000 -10"


def test_boxes_are_columns_five_to_eight(made, listed):
    made.image("training/image_2/000001.png", "training/image_2/000002.png", "testing/image_2/000001.png")
    made.text("training/label_2/000001.txt", f"{CAR}\n{DONT_CARE}\n{VAN}\n")
    made.text("training/label_2/000002.txt", f"{DONT_CARE}\n")
    layout, splits = find_splits(str(made.root))
    assert (layout, list(splits)) == ("KITTI", ["training"])
    data = open_data(str(made.root), "train")
    assert listed(data) == {
        "training/image_2/000001.png": [("Car", 10.5, 20.25, 50, 70), ("Person sitting", 1, 2, 30, 40)],
        "training/image_2/000002.png": [],
    }
    assert data.dropped == {"DontCare regions": 2}
    assert data.sizes.tolist() == [[160, 120]] * 2


def test_folders_that_yolo_has_too(made, listed):
    made.image("images/a.jpg")
    made.text("labels/a.txt", CAR)
    assert find_splits(str(made.root))[0] == "KITTI"
    assert listed(open_data(str(made.root))) == {"images/a.jpg": [("Car", 10.5, 20.25, 50, 70)]}


def test_a_broken_line_is_named(made):
    made.image("image_2/a.png")
    made.text("label_2/a.txt", f"{CAR}\n{CAR.replace('1.65', 'high')}\n")
    data = open_data(str(made.root))
    assert len(data.boxes) == 1
    (found,) = data.findings
    assert (found.kind, found.count) == (NOT_A_LINE, 1)
    assert found.examples[0].startswith("a.txt:2: ")
