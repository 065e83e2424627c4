"""Detections in a data set's own terms: its ids, its classes, rounded as they are written."""

import json
from dataclasses import replace

import numpy as np
import pytest

from fcos_cli.data.records import Categories
from fcos_cli.data.sources.files import image_files
from fcos_cli.errors import DataError
from fcos_cli.evaluation.categories import match_categories
from fcos_cli.evaluation.detections import Columns, ImageResult, concatenate, to_columns
from fcos_cli.evaluation.results import load_results, write_results

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


def test_written_detections_read_back(tmp_path):
    array = concatenate([to_columns(make_result(index, 20), IDS) for index in range(3)]).as_array()
    write_results(tmp_path / "preds.json", array)
    np.testing.assert_array_equal(load_results(tmp_path / "preds.json"), array)
    write_results(tmp_path / "none.json", array[:0])
    assert json.loads((tmp_path / "none.json").read_text()) == []


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
