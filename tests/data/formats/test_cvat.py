"""CVAT's XML for images made by hand."""

import pytest

from fcos_cli.data.datasets import find_splits, open_data
from fcos_cli.data.findings import Finding
from fcos_cli.data.formats.named import BAD_SHAPE
from fcos_cli.errors import DataError

LABELS = "<meta><task><labels><label><name>dog</name></label><label><name>cat</name></label></labels></task></meta>"


def image(name, *shapes, subset=""):
    return f'<image id="0" name="{name}" {subset} width="160" height="120">{"".join(shapes)}</image>'


def document(*images):
    return f"<?xml version='1.0'?><annotations><version>1.1</version>{LABELS}{''.join(images)}</annotations>"


BOX = '<box label="cat" occluded="0" xtl="10.5" ytl="20" xbr="50" ybr="70"><attribute name="x">1</attribute></box>'
TURNED = '<box label="dog" xtl="40" ytl="50" xbr="80" ybr="60" rotation="90.0"/>'
POLYGON = '<polygon label="dog" points="5,6;30,9;20.5,40"/>'
ELLIPSE = '<ellipse label="dog" cx="60" cy="60" rx="20" ry="10" rotation="90"/>'
MASK = '<mask label="cat" rle="1, 2" left="3" top="4" width="10" height="20"/>'
POINT = '<points label="dog" points="5,6"/>'


def test_shapes_become_the_boxes_around_them(made, listed):
    made.image("images/sub/a.jpg", "images/b.jpg")
    made.text(
        "annotations.xml", document(image("sub/a.jpg", BOX, TURNED, POLYGON), image("b.jpg", ELLIPSE, MASK, POINT))
    )
    for spec in (made.root, made.root / "annotations.xml"):
        data = open_data(str(spec))
        assert listed(data) == {
            "images/sub/a.jpg": [("cat", 10.5, 20, 50, 70), ("dog", 55, 35, 65, 75), ("dog", 5, 6, 30, 40)],
            "images/b.jpg": [("dog", 50, 40, 70, 80), ("cat", 3, 4, 13, 24)],
        }
        assert data.categories.names == ("dog", "cat")
        assert data.dropped == {"shapes without an area (points, lines)": 1}


def test_subsets_are_splits(made):
    made.image("images/train/a.jpg", "images/val/a.jpg")
    train, val = (image("a.jpg", BOX, subset=f'subset="{name}"') for name in ("train", "val"))
    made.text("annotations.xml", document(train, val, val.replace("a.jpg", "b.jpg")))
    layout, splits = find_splits(str(made.root))
    assert (layout, {name: split.count() for name, split in splits.items()}) == ("CVAT", {"train": 1, "val": 2})
    assert [open_data(str(made.root), split).file_names[0] for split in splits] == [
        "images/train/a.jpg",
        "images/val/a.jpg",
    ]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<annotations><track id='0' label='a'/></annotations>", "tracks"),
        ("<annotations><image>", "not valid XML"),
    ],
)
def test_what_is_wrong_names_the_file(made, content, message):
    made.image("a.jpg")
    made.text("annotations.xml", content)
    with pytest.raises(DataError, match=rf"annotations\.xml: .*{message}"):
        open_data(str(made.root))


@pytest.mark.parametrize("shape", [BOX.replace("10.5", "ten"), '<polygon label="dog" points="1,2;3"/>'])
def test_a_shape_whose_coordinates_are_no_numbers_is_left_out(made, shape):
    made.image("a.jpg")
    made.text("annotations.xml", document(image("a.jpg", shape, BOX)))
    data = open_data(str(made.root))
    assert len(data.boxes) == 1
    assert data.findings == (Finding(BAD_SHAPE, 1, (f"a.jpg: <{shape[1:].split()[0]}>",)),)
