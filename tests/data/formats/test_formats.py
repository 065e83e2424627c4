"""The interface of annotation formats: what is tried, what errors name, and that a new format is one entry."""

import json
from pathlib import Path

import numpy as np
import pytest

from fcos_cli.data import datasets
from fcos_cli.data.datasets import find_splits, open_data
from fcos_cli.data.formats import known
from fcos_cli.data.formats.assemble import assemble
from fcos_cli.data.formats.format import Format
from fcos_cli.data.formats.splits import Split
from fcos_cli.data.records import Categories
from fcos_cli.errors import DataError

FILE = {"images": [{"id": 1, "file_name": "a.jpg", "width": 4, "height": 3}], "categories": [], "annotations": []}


def read_table(file):
    """One line an image: name, width, height, and one box."""
    rows = [line.split(",") for line in file.read_text().splitlines()]
    numbers = np.array([row[1:] for row in rows], dtype=np.float64)
    return assemble(
        name=file.stem,
        categories=Categories((1,), ("thing",)),
        root=file.parent,
        image_ids=np.arange(len(rows)),
        file_names=[row[0] for row in rows],
        sizes=numbers[:, :2].astype(np.int32),
        image_index=np.arange(len(rows)),
        boxes=numbers[:, 2:],
        labels=np.zeros(len(rows), dtype=np.int64),
    )


def table_splits(folder):
    def split(file):
        return Split(open=lambda: read_table(file), count=lambda: len(file.read_text().splitlines()))

    return {file.stem: split(file) for file in folder.glob("*.table")}


TABLE = Format(
    "Table", "*.table", table_splits, (".table",), "a table (.table)", lambda file: table_splits(file.parent)
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train.table").write_text("a.jpg,40,30,1,2,11,22\nb.jpg,40,30,5,5,9,9\n")
    return tmp_path


def test_what_is_not_understood_names_every_format(folder: Path) -> None:
    with pytest.raises(DataError, match="holds no data set that is understood") as caught:
        open_data(str(folder))
    assert caught.value.hint == (
        "COCO: annotations/*.json; Pascal VOC: Annotations/*.xml; KITTI: training/label_2/*.txt; Darknet: obj.data, "
        "obj.names and train.txt; YOLO: data.yaml or images/, labels/; COCO: <split>/*.json; Pascal VOC: "
        "VOCdevkit/VOC2007, Annotations/<split>/*.xml; YOLO: *.txt beside the images, and classes.txt; CVAT: "
        "annotations.xml; LabelMe: *.json with `shapes`, one an image; Label Studio: an export as JSON; Open Images: "
        "*-annotations-bbox.csv; or images"
    )
    with pytest.raises(DataError, match="not a data set") as caught:
        open_data(str(folder / "train.table"))
    assert caught.value.hint == (
        "give a folder, a COCO annotation file (.json), Darknet's obj.data, a YOLO index (.yaml), CVAT's "
        "annotations.xml, an export of Label Studio (.json), Open Images' boxes (.csv)"
    )


def test_a_new_format_is_one_entry(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (datasets, known):
        monkeypatch.setattr(module, "FORMATS", (*known.FORMATS, TABLE))
    layout, splits = find_splits(str(folder))
    assert (layout, {name: split.count() for name, split in splits.items()}) == ("Table", {"train": 2})
    for spec, split in ((folder, "training"), (folder / "train.table", None)):
        data = open_data(str(spec), split)
        assert (list(data.file_names), data.boxes.tolist()) == (["a.jpg", "b.jpg"], [[1, 2, 11, 22], [5, 5, 9, 9]])
    (folder / "train.table").unlink()
    with pytest.raises(DataError) as caught:
        open_data(str(folder))
    assert "; Table: *.table; or images" in caught.value.hint


def test_a_coco_file_is_opened_whatever_split_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "annotations").mkdir()
    for name in ("boxes.json", "annotations/all.json"):
        (tmp_path / name).write_text(json.dumps(FILE))
    for spec in (tmp_path / "boxes.json", tmp_path):
        assert [len(open_data(str(spec), split)) for split in (None, "train", "nonsense")] == [1, 1, 1]
    (tmp_path / "annotations/all.json").rename(tmp_path / "annotations/some.json")
    with pytest.raises(DataError, match="has no split nonsense"):
        open_data(str(tmp_path), "nonsense")
