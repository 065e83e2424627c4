"""What is written: valid JSON whatever happens, the data set's own ids, the figures that were evaluated."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from fcos_cli.data.datasets import image_files
from fcos_cli.data.records import Categories
from fcos_cli.errors import DataError
from fcos_cli.evaluation.results import load_located_results, load_results
from fcos_cli.inference.predictor import ImageResult
from fcos_cli.inference.results import (
    Columns,
    companion_path,
    concatenate,
    match_categories,
    result_writer,
    to_columns,
    write_results,
)

IDS = np.array([2, 5, 90])


def make_result(index, count, seed=0, size=(640, 480)):
    rng = np.random.default_rng(seed + index)
    corner = rng.uniform(0, 300, (count, 2))
    return ImageResult(
        index=index,
        image_id=1000 + index,
        size=size,
        boxes=np.concatenate([corner, corner + rng.uniform(1, 150, (count, 2))], axis=1),
        scores=np.sort(rng.uniform(0.05, 1, count))[::-1].astype(np.float32).astype(np.float64),
        labels=rng.integers(0, 3, count),
        level=rng.integers(3, 8, count),
        location=rng.integers(0, 1333, (count, 2)),
    )


def test_the_file_holds_what_is_evaluated(tmp_path):
    results = [make_result(0, 40), make_result(1, 0), make_result(2, 25)]
    with result_writer(tmp_path / "preds.json", IDS) as writer:
        for result in results:
            writer.add(result)
    array = concatenate([to_columns(result, IDS) for result in results]).as_array()
    assert (writer.images, writer.detections) == (3, 65)
    np.testing.assert_array_equal(load_results(tmp_path / "preds.json"), array)
    write_results(tmp_path / "again.json", array)
    np.testing.assert_array_equal(load_results(tmp_path / "again.json"), array)


def test_entries_are_coco_results_with_the_data_sets_ids(tmp_path):
    result = replace(
        make_result(0, 1), boxes=np.array([[10.12345, 20.0, 110.5, 80.99999]]), scores=np.array([0.1234567])
    )
    result = replace(result, labels=np.array([2]))
    with result_writer(tmp_path / "preds.json", IDS) as writer:
        writer.add(result)
    assert json.loads((tmp_path / "preds.json").read_text()) == [
        {"image_id": 1000, "category_id": 90, "bbox": [10.123, 20.0, 100.377, 61.0], "score": 0.123457}
    ]


def test_entries_say_where_they_came_from_only_if_asked(tmp_path):
    results = [make_result(0, 2), make_result(1, 0), make_result(2, 3)]
    for name, asked in (("plain", False), ("located", True)):
        with result_writer(tmp_path / f"{name}.json", IDS, locations=asked) as writer:
            for result in results:
                writer.add(result)
    plain, located = (json.loads((tmp_path / f"{name}.json").read_text()) for name in ("plain", "located"))
    assert [list(entry) for entry in located] == [[*plain[0], "level", "location"]] * 5
    assert [{key: entry[key] for key in plain[0]} for entry in located] == plain
    columns, found = concatenate([to_columns(r, IDS) for r in results]), load_located_results(tmp_path / "located.json")
    for given, read in zip((columns.as_array(), columns.level, columns.location), found, strict=True):
        np.testing.assert_array_equal(read, given)


@pytest.mark.parametrize("counts", [[], [0], [0, 0], [0, 3], [3, 0], [1, 1, 1]])
def test_always_valid_json(tmp_path, counts):
    with result_writer(tmp_path / "preds.json", IDS) as writer:
        for index, count in enumerate(counts):
            writer.add(make_result(index, count))
    assert len(json.loads((tmp_path / "preds.json").read_text())) == sum(counts)


def interrupt_after(path, images, data=None, before=lambda writer: None):
    with result_writer(path, IDS, data=data, categories=Categories((2, 5, 90), ("a", "b", "c"))) as writer:
        for index in range(images):
            writer.add(make_result(index, 4))
        before(writer)
        raise KeyboardInterrupt


def test_interruption_keeps_what_is_done(tmp_path):
    path = tmp_path / "preds.json"
    path.write_text("older")
    with pytest.raises(KeyboardInterrupt):
        interrupt_after(path, 3)
    assert [entry["image_id"] for entry in json.loads(path.read_text())] == [1000] * 4 + [1001] * 4 + [1002] * 4
    assert os.listdir(tmp_path) == ["preds.json"]


def test_interruption_in_the_middle_of_an_image_takes_it_back(tmp_path):
    path = tmp_path / "preds.json"
    with pytest.raises(KeyboardInterrupt):
        interrupt_after(path, 2, before=lambda writer: writer.file.write(b',\n{"image_id": 9, "cat'))
    assert {entry["image_id"] for entry in json.loads(path.read_text())} == {1000, 1001}


def test_another_error_keeps_the_older_file(tmp_path):
    path = tmp_path / "preds.json"
    path.write_text("older")

    def fail():
        with result_writer(path, IDS) as writer:
            writer.add(make_result(0, 4))
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "older"
    assert os.listdir(tmp_path) == ["preds.json"]


def test_companion_lists_the_images(tmp_path, make_images):
    data = image_files([str(make_images({"b/two.png": (20, 10), "a.png": (30, 40)}))])
    with pytest.raises(KeyboardInterrupt):
        interrupt_after(tmp_path / "preds.json", 2, data)
    companion = json.loads((tmp_path / "preds.images.json").read_text())
    assert [(row["file_name"], row["id"], row["width"], row["height"]) for row in companion["images"]] == [
        (data.file_names[0], 1000, 640, 480),
        (data.file_names[1], 1001, 640, 480),
    ]
    assert companion["categories"] == [{"id": 2, "name": "a"}, {"id": 5, "name": "b"}, {"id": 90, "name": "c"}]
    assert companion_path("x/preds") == companion_path("x/preds.json")
    assert companion_path("preds.v2").name == "preds.v2.images.json"


def test_nothing_as_columns():
    assert concatenate([]).as_array().shape == (0, 7)
    assert concatenate([]).location.shape == (0, 2)
    assert isinstance(to_columns(make_result(0, 0), IDS), Columns)


@pytest.fixture
def with_classes(make_images):
    """Function: a data set with these classes."""
    folder = make_images({"a.png": (4, 4)})

    def make(ids, names):
        return replace(image_files([str(folder)]), categories=Categories(ids, names), name="mine")

    return make


MODEL = Categories((1, 2, 3), ("cat", "dog", "owl"))


def test_classes_are_matched_by_name(with_classes):
    same, absent = match_categories(MODEL, with_classes((1, 2, 3), ("cat", "dog", "owl")))
    assert (same.tolist(), absent) == ([1, 2, 3], ())
    moved, absent = match_categories(MODEL, with_classes((7, 8, 44), ("Owl", " cat", "dog")))
    assert (moved.tolist(), absent) == ([8, 44, 7], ())


def test_classes_of_bare_images_are_the_models(with_classes):
    assert match_categories(MODEL, with_classes((), ()))[0].tolist() == [1, 2, 3]


def test_classes_that_the_data_lack_are_left_out(with_classes):
    ids, absent = match_categories(MODEL, with_classes((5, 6), ("owl", "cat")))
    assert (ids.tolist(), absent) == ([6, -1, 5], ("dog",))
    result = replace(make_result(0, 3), labels=np.array([0, 1, 2]))
    assert to_columns(result, ids).category_id.tolist() == [6, 5]


def test_classes_that_the_model_does_not_know_are_an_error(with_classes):
    with pytest.raises(DataError, match="does not know these classes of mine: horse; what it knows besides: dog, owl"):
        match_categories(MODEL, with_classes((1, 2), ("cat", "horse")))
    with pytest.raises(DataError, match="two classes called"):
        match_categories(MODEL, with_classes((1, 2), ("cat", "cat")))
