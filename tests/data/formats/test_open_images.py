"""Open Images' CSV files made by hand."""

import pytest

from fcos_cli.data.datasets import find_splits, open_data
from fcos_cli.data.findings import Finding
from fcos_cli.data.formats.named import BAD_SHAPE
from fcos_cli.errors import DataError

HEADER = "ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax,IsOccluded,IsTruncated,IsGroupOf,IsDepiction,IsInside"
A_CAT = "aa01,xclick,/m/01yrx,1,0.1,0.5,0.25,0.75,0,0,0,0,0"
DOGS = "aa01,xclick,/m/0bt9lr,1,0,1,0,1,0,0,1,0,0"
ABSENT = A_CAT.replace("aa01", "ff09")
NAMES = "/m/01yrx,Cat\n/m/0bt9lr,Dog\n"


def test_fractions_names_groups_and_images_that_are_not_there(made, listed):
    made.image("train/aa01.jpg", "validation/aa02.jpg")
    made.text("oidv6-train-annotations-bbox.csv", f"{HEADER}\n{A_CAT}\n{DOGS}\n{ABSENT}\n")
    made.text("validation-annotations-bbox.csv", f"{HEADER}\n{A_CAT.replace('aa01', 'aa02')}\n")
    made.text("class-descriptions-boxable.csv", NAMES)
    layout, splits = find_splits(str(made.root))
    assert (layout, list(splits)) == ("Open Images", ["train", "validation"])
    data = open_data(str(made.root), "train")
    assert listed(data) == {"train/aa01.jpg": [("Cat", 16, 30, 80, 90), ("Dog", 0, 0, 160, 120)]}
    assert data.crowd.tolist() == [False, True]
    assert data.dropped == {"boxes of images that are not in the folder": 1}
    assert data.findings[0].examples == ("ff09",)
    assert listed(open_data(str(made.root), "val")) == {"validation/aa02.jpg": [("Cat", 16, 30, 80, 90)]}


def test_fiftyone_s_folders(made, listed):
    made.image("data/aa01.jpg")
    made.text("labels/detections.csv", f"{HEADER}\n{A_CAT}\n")
    made.text("metadata/classes.csv", NAMES)
    assert listed(open_data(str(made.root))) == {"data/aa01.jpg": [("Cat", 16, 30, 80, 90)]}


def test_what_is_wrong_is_named(made):
    made.image("x.jpg")
    file = made.text("boxes.csv", f"{HEADER}\n{ABSENT}\n")
    with pytest.raises(DataError, match=r"none of its 1 images is in .*ff09\.jpg"):
        open_data(str(file))
    made.image("aa01.jpg")
    made.text("boxes.csv", f"{HEADER}\n{A_CAT.replace('0.25', 'x')}\n")
    assert open_data(str(file)).findings == (Finding(BAD_SHAPE, 1, ("boxes.csv:2",)),)


def test_blanks_in_the_header(made, listed):
    made.image("aa01.jpg")
    made.text("boxes.csv", f"{HEADER.replace(',', ' , ')}\n{A_CAT}\n")
    assert list(listed(open_data(str(made.root)))) == ["aa01.jpg"]
