"""Pascal VOC files in deeper folders, made by hand."""

import pytest

from fcos_cli.data.datasets import find_splits, open_data


def xml(name, label, x0):
    return (
        f"<annotation><filename>{name}.jpg</filename><size><width>160</width><height>120</height></size><object><name>"
        f"{label}</name><bndbox><xmin>{x0}</xmin><ymin>2</ymin><xmax>50</xmax><ymax>60</ymax></bndbox></object>"
        "</annotation>"
    )


@pytest.mark.parametrize(
    ("annotations", "images"),
    [
        ("Annotations/{}", "JPEGImages/{}"),
        ("Annotations/{}", "JPEGImages"),
        ("annotations/xmls/{}", "images/{}"),
        ("{}/Annotations", "{}/JPEGImages"),
        ("{}/annotations", "{}/images"),
        ("{}/Annotations", "{}"),
    ],
)
def test_a_folder_for_each_split(made, listed, annotations, images):
    for split, name, label, x0 in (("train", "a", "cat", 1), ("val", "b", "dog", 7)):
        made.image(f"{images.format(split)}/{name}.jpg")
        made.text(f"{annotations.format(split)}/{name}.xml", xml(name, label, x0))
        made.text(f"{annotations.format(split)}/._{name}.xml", "\0")
    layout, splits = find_splits(str(made.root))
    assert (layout, {name: split.count() for name, split in splits.items()}) == ("Pascal VOC", {"train": 1, "val": 1})
    opened = {split: open_data(str(made.root), split) for split in splits}
    assert listed(opened["train"]) == {"a.jpg": [("cat", 1, 2, 50, 60)]}
    assert listed(opened["val"]) == {"b.jpg": [("dog", 7, 2, 50, 60)]}
    assert all(data.path(0).is_file() and data.categories.names == ("cat", "dog") for data in opened.values())


def test_the_development_kit(made, listed):
    for year, name in (("VOC2007", "a"), ("VOC2012", "b")):
        made.image(f"VOCdevkit/{year}/JPEGImages/{name}.jpg")
        made.text(f"VOCdevkit/{year}/Annotations/{name}.xml", xml(name, "cat", 3))
    assert list(find_splits(str(made.root))[1]) == ["all"]
    assert list(find_splits(str(made.root / "VOCdevkit/VOC2012"))[1]) == ["all"]
    made.text("VOCdevkit/VOC2012/ImageSets/Main/train.txt", "b\n")
    assert list(find_splits(str(made.root))[1]) == ["train"]
    assert listed(open_data(str(made.root), "train")) == {"b.jpg": [("cat", 3, 2, 50, 60)]}
    made.text("VOCdevkit/VOC2007/ImageSets/Main/trainval.txt", "a\n")
    assert list(find_splits(str(made.root))[1]) == ["VOC2012_train", "VOC2007_trainval"]


def test_splits_whose_files_have_the_same_names(made, listed):
    for split, label in (("train", "cat"), ("valid", "dog")):
        made.image(f"{split}/JPEGImages/a.jpg")
        made.text(f"{split}/Annotations/a.xml", xml("a", label, 3))
    opened = [open_data(str(made.root), split) for split in ("train", "val")]
    assert [listed(data) for data in opened] == [{"a.jpg": [(name, 3, 2, 50, 60)]} for name in ("cat", "dog")]
    assert opened[0].image_ids.tolist() != opened[1].image_ids.tolist()
