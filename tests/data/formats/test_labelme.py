"""LabelMe folders made by hand."""

import pytest

from fcos_cli.data.datasets import find_splits, open_data
from fcos_cli.data.findings import Finding
from fcos_cli.data.formats.assemble import UNREADABLE
from fcos_cli.data.formats.named import BAD_SHAPE, NO_LABEL


def annotation(image, *shapes, size=(160, 120)):
    listed = [{"label": label, "points": points, "shape_type": kind} for label, points, kind in shapes]
    return {"version": "5.0", "imagePath": image, "imageWidth": size[0], "imageHeight": size[1], "shapes": listed}


CAT = ("cat", [[50, 70], [10, 20]], "rectangle")
DOG = ("dog", [[5, 6], [30, 9], [20, 40]], "polygon")


def test_shapes_become_the_boxes_around_them(made, listed):
    made.image("a.jpg", "b.jpg")
    made.json("a.json", annotation("a.jpg", CAT, DOG, ("dog", [[60, 60], [63, 64]], "circle")))
    made.json("b.json", annotation("b.jpg", ("cat", [[3, 3]], "point"), ("cat", [[3, 3], [9, 9]], "line")))
    layout, splits = find_splits(str(made.root))
    data = open_data(str(made.root))
    assert (layout, list(splits)) == ("LabelMe", ["all"])
    assert listed(data) == {
        "a.jpg": [("cat", 10, 20, 50, 70), ("dog", 5, 6, 30, 40), ("dog", 55, 55, 65, 65)],
        "b.jpg": [],
    }
    assert data.dropped == {"shapes without an area (points, lines)": 2}
    assert data.sizes.tolist() == [[160, 120]] * 2


def test_folders_of_splits_share_their_classes(made):
    for split, shape in (("train", CAT), ("val", DOG)):
        made.image(f"{split}/a.jpg")
        made.json(f"{split}/a.json", annotation("C:\\photos\\a.jpg", shape))
    opened = {split: open_data(str(made.root), split) for split in ("train", "val")}
    assert {data.categories.names for data in opened.values()} == {("cat", "dog")}
    assert [data.labels.tolist() for data in opened.values()] == [[0], [1]]
    assert opened["val"].path(0) == made.root / "val/a.jpg"


def test_annotations_in_a_folder_of_their_own(made, listed):
    made.image("images/x 1.png")
    made.json("labels/x 1.json", annotation("../images/x 1.png", CAT))
    assert listed(open_data(str(made.root))) == {"images/x 1.png": [("cat", 10, 20, 50, 70)]}


def test_image_data_before_the_shapes(made):
    made.image("a.jpg")
    made.json("a.json", {"imagePath": "a.jpg", "imageData": "A" * 70_000, **annotation("a.jpg", CAT)})
    data = open_data(str(made.root))
    assert (len(data), len(data.boxes)) == (1, 1)


@pytest.mark.parametrize(
    ("shapes", "kind"),
    [
        ([{"label": "", "points": [[1, 1], [2, 2]], "shape_type": "rectangle"}], NO_LABEL),
        ([{"label": "cat", "points": [[1, "x"], [2, 2]]}], BAD_SHAPE),
        ([{"label": "cat", "points": 5}], BAD_SHAPE),
        ([1], BAD_SHAPE),
    ],
)
def test_a_shape_that_cannot_be_used_is_left_out(made, shapes, kind):
    made.image("a.jpg")
    made.json("a.json", {**annotation("a.jpg"), "shapes": shapes})
    assert open_data(str(made.root)).findings == (Finding(kind, 1, ("a.json, shape 1",)),)


def test_an_image_whose_file_is_broken_is_left_out(made):
    made.image("a.jpg", "b.jpg")
    made.json("a.json", annotation("a.jpg"))
    made.text("b.json", '{"shapes": [], "imagePath": "b.jpg", ')
    data = open_data(str(made.root))
    assert list(data.file_names) == ["a.jpg"]
    (found,) = data.findings
    assert (found.kind, found.count) == (UNREADABLE, 1)
    assert "b.json: not valid JSON" in found.examples[0]


def test_a_name_that_no_file_can_have_is_a_missing_image(made):
    made.image("a.jpg")
    made.json("b.json", annotation("é" * 300, CAT))
    data = open_data(str(made.root))
    assert (len(data), list(data.sizes[0])) == (1, [160, 120])


def test_folders_of_splits_within_a_folder_of_annotations(made, listed):
    for split, shape in (("train", CAT), ("val", DOG)):
        made.image(f"images/{split}/a.jpg")
        made.json(f"annotations/{split}/a.json", annotation("a.jpg", shape))
    assert list(find_splits(str(made.root))[1]) == ["train", "val"]
    assert listed(open_data(str(made.root), "val")) == {"images/val/a.jpg": [("dog", 5, 6, 30, 40)]}
