"""Data sets written in another format and read back: as many images and boxes, each where it was."""

import json
import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from fcos_cli.data.convert.converting import convert
from fcos_cli.data.convert.known import TARGETS
from fcos_cli.data.datasets import find_splits, open_data
from fcos_cli.data.formats.named import NamedBox, NamedImage, named_data
from fcos_cli.errors import DataError, UsageError

WIDTH, HEIGHT = 160, 120
CLASSES = ("cat", "big dog", "Ä & <b>")


def side(limit):
    return st.floats(-20, limit + 20, allow_nan=False, width=32)


@st.composite
def box(draw):
    x0, y0 = draw(side(WIDTH)), draw(side(HEIGHT))
    w, h = (draw(st.floats(0.5, 200, width=32)) for _ in range(2))
    return NamedBox(draw(st.sampled_from(CLASSES)), (x0, y0, x0 + w, y0 + h), draw(st.booleans()))


def splits(root: Path, boxes):
    """Two splits that share no image; names hold folders, blanks, points and repeat but for their extension."""
    names = {"train": ["a.jpg", "a.png", "in ner/a.b.jpg"], "val": ["images/c.jpg"]}
    found = {}
    rest = iter(boxes)
    for split, files in names.items():
        for name in files:
            (root / split / name).parent.mkdir(parents=True, exist_ok=True)
            if not (root / split / name).exists():
                Image.new("RGB", (WIDTH, HEIGHT)).save(root / split / name)
        images = [NamedImage(name, next(rest, []), (WIDTH, HEIGHT)) for name in files]
        found[split] = named_data(split, root / split, images, CLASSES)
    return found


def expected(data, to):
    """The boxes that a format holds of image after image: class, xyxy and crowd."""
    for i in range(len(data)):
        rows = data.rows(i)
        boxes, labels, crowd = data.boxes[rows], data.labels[rows], data.crowd[rows]
        if to == "yolo":
            boxes = np.clip(boxes, 0, [WIDTH, HEIGHT, WIDTH, HEIGHT])
            kept = ~crowd & (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
            boxes, labels, crowd = boxes[kept], labels[kept], crowd[kept]
        yield boxes, [data.categories.names[label] for label in labels], crowd.tolist()


@pytest.mark.parametrize("to", TARGETS)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(boxes=st.lists(st.lists(box(), max_size=4), min_size=4, max_size=4))
def test_round_trip(to, boxes, tmp_path_factory):
    root = tmp_path_factory.mktemp("data")
    source = splits(root, boxes)
    out = root / "out"
    written = convert(source, out, to, images="link")
    layout, found = find_splits(str(out))
    assert (layout.lower().split()[-1], list(found)) == (to, ["train", "val"])
    for split, data in source.items():
        back = open_data(str(out), split)
        wanted = list(expected(data, to))
        assert (written.images[split], written.boxes[split]) == (len(back), len(back.boxes))
        assert len(back.boxes) == sum(len(boxes) for boxes, _, _ in wanted)
        assert back.categories.names == CLASSES
        by_target = {os.path.realpath(back.path(i)): i for i in range(len(back))}
        for i, (boxes_of, names, crowd) in enumerate(wanted):
            rows = back.rows(by_target[os.path.realpath(data.path(i))])
            np.testing.assert_allclose(back.boxes[rows], boxes_of.reshape(-1, 4), atol=0.01)
            assert [back.categories.names[label] for label in back.labels[rows]] == names
            assert back.crowd[rows].tolist() == crowd
    lost = sum(len(data.boxes) for data in source.values()) - sum(written.boxes.values())
    assert sum(written.left_out.values()) == lost


@pytest.fixture
def source(tmp_path):
    cat, crowd = NamedBox("cat", (1, 2, 30, 40)), NamedBox("cat", (5, 5, 90, 90), crowd=True)
    return splits(tmp_path / "source", [[cat, crowd], [cat], [], [cat]])


def test_coco_keeps_ids_order_and_names(source, tmp_path):
    convert(source, tmp_path / "coco", "coco")
    train = open_data(str(tmp_path / "coco"), "train")
    for column in ("image_ids", "boxes", "labels", "crowd", "areas", "box_ids", "offsets", "sizes"):
        assert getattr(train, column).tolist() == getattr(source["train"], column).tolist(), column
    assert list(train.file_names) == list(source["train"].file_names)
    assert train.categories == source["train"].categories


def test_yolo_names_what_it_cannot_say(source, tmp_path):
    written = convert(source, tmp_path / "yolo", "yolo")
    ((reason, count),) = written.left_out.items()
    assert ("crowd" in reason, count) == (True, 1)
    assert any("category ids are not kept" in line for line in written.changed)
    assert (tmp_path / "yolo/data.yaml").is_file()
    assert not (tmp_path / "yolo/images/train/a.jpg").is_symlink()


def test_reference_names_the_images_where_they_are(source, tmp_path):
    convert(source, tmp_path / "coco", "coco", images="reference")
    assert not (tmp_path / "coco/images").exists()
    back = open_data(str(tmp_path / "coco"), "val")
    assert os.path.samefile(back.path(0), source["val"].path(0))
    with pytest.raises(UsageError, match="lie beside their images"):
        convert(source, tmp_path / "yolo", "yolo", images="reference")


def test_nothing_is_written_over_and_nothing_half(source, tmp_path, monkeypatch):
    (tmp_path / "out").mkdir()
    convert(source, tmp_path / "out", "coco")
    before = sorted((tmp_path / "out").rglob("*"))
    with pytest.raises(UsageError, match="nothing is written over"):
        convert(source, tmp_path / "out", "voc")
    assert sorted((tmp_path / "out").rglob("*")) == before

    def interrupt(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(source, tmp_path / "other", "coco", advance=interrupt)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "source"]


def test_missing_images_are_named_before_anything_is_written(source, tmp_path):
    source["train"].path(1).unlink()
    with pytest.raises(DataError, match=r"train: 1 of 3 image files are missing in .*a\.png"):
        convert(source, tmp_path / "out", "coco")
    assert not (tmp_path / "out").exists()


def test_splits_of_other_classes_are_joined_by_name(tmp_path):
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.jpg")
    one, two = (
        named_data(name, tmp_path, [NamedImage("a.jpg", [NamedBox(name, (1, 1, 9, 9))])], [name]) for name in ("x", "y")
    )
    written = convert({"train": one, "val": two}, tmp_path / "out", "yolo")
    assert "the splits list different classes: they are joined by name" in written.changed
    val = open_data(str(tmp_path / "out"), "val")
    assert ([val.categories.names[label] for label in val.labels], val.categories.names) == (["y"], ("x", "y"))


@pytest.mark.parametrize("names", [["cat", "cat "], [""], ["two\nlines"]])
def test_class_names_that_files_of_lines_cannot_hold(tmp_path, names):
    Image.new("RGB", (WIDTH, HEIGHT)).save(tmp_path / "a.jpg")
    data = named_data("all", tmp_path, [NamedImage("a.jpg", [NamedBox(names[-1], (1, 1, 9, 9))])], names)
    with pytest.raises(DataError, match="cannot hold the class name"):
        convert({"all": data}, tmp_path / "voc", "voc")
    convert({"all": data}, tmp_path / "coco", "coco")
    assert open_data(str(tmp_path / "coco")).categories.names == tuple(names)


def test_a_union_of_splits_is_written_only_where_images_are_shared(source, tmp_path):
    data = source["train"]
    parts = {"train": data.subset([0, 1]), "val": data.subset([2]), "trainval": data}
    written = convert(parts, tmp_path / "yolo", "yolo")
    assert list(written.images) == ["train", "val"]
    assert "trainval is not written: it is train and val together" in written.changed
    convert(parts, tmp_path / "voc", "voc")
    assert sorted(find_splits(str(tmp_path / "voc"))[1]) == ["train", "trainval", "val"]
    assert len(list((tmp_path / "voc/JPEGImages").iterdir())) == 3


def test_drawn_images_become_files(tmp_path):
    data = open_data("shapes", "val").subset([0, 1])
    convert({"val": data}, tmp_path / "out", "voc")
    back = open_data(str(tmp_path / "out"), "val")
    assert (back.read(1) == data.read(1)).all()
    np.testing.assert_allclose(back.boxes, data.boxes, atol=0.001)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["jpg", "tif"])
def test_boxes_of_images_annotated_as_stored(tmp_path, orientation, suffix):
    """A white square on black: wherever a format's readers turn the image, the box stays on the square."""
    pixels = np.zeros((120, 160, 3), np.uint8)
    pixels[16:48, 32:96] = 255
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(pixels).save(tmp_path / f"a.{suffix}", exif=exif)
    data = named_data(
        "all", tmp_path, [NamedImage(f"a.{suffix}", [NamedBox("square", (32, 16, 96, 48))], (160, 120))], ["square"]
    )
    if orientation in (2, 3, 4):
        # Of these the annotated size does not tell whether boxes are of the stored or the upright image.
        upright = data.read(0)
        ys, xs = np.nonzero(upright[..., 0] > 128)
        corners = (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
        image = NamedImage(f"a.{suffix}", [NamedBox("square", tuple(map(float, corners)))], (160, 120))
        data = named_data("all", tmp_path, [image], ["square"])
    for to in TARGETS:
        convert({"train": data}, tmp_path / to, to)
        back = open_data(str(tmp_path / to), "train")
        x0, y0, x1, y1 = back.boxes[0].round().astype(int)
        seen = back.read(0)
        assert seen[y0:y1, x0:x1].min() > 200, to
        assert (seen > 128).sum() == 3 * (x1 - x0) * (y1 - y0), to


def test_json_of_the_file_is_coco(source, tmp_path):
    convert(source, tmp_path / "out", "coco")
    content = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    assert content["annotations"][0] == {
        "id": 1,
        "image_id": content["images"][0]["id"],
        "category_id": 1,
        "bbox": [1, 2, 29, 38],
        "area": 1102,
        "iscrowd": 0,
    }
