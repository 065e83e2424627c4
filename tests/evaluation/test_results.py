import json

import numpy as np
import pytest

from fcos_cli.errors import DataError
from fcos_cli.evaluation.results import load_located_results, load_results

ROW = {"image_id": 7, "category_id": 2, "bbox": [1.5, 2, 30, 40], "score": 0.25}
LOCATED = {**ROW, "level": 3, "location": [4, 20]}


def test_columns_and_extra_keys(tmp_path):
    path = tmp_path / "preds.json"
    path.write_text(json.dumps([ROW, {**ROW, "image_id": 8, "score": 1, "segmentation": []}]))
    expected = [[7, 1.5, 2, 30, 40, 0.25, 2], [8, 1.5, 2, 30, 40, 1, 2]]
    np.testing.assert_array_equal(load_results(path), expected)


def test_an_empty_list_is_no_detections(tmp_path):
    path = tmp_path / "preds.json"
    path.write_text("[]")
    assert load_results(path).shape == (0, 7)


def test_where_detections_came_from(tmp_path):
    path = tmp_path / "preds.json"
    path.write_text(json.dumps([LOCATED, {**LOCATED, "level": 7, "location": [64, 192]}]))
    found = load_located_results(path)
    np.testing.assert_array_equal(found.results, load_results(path))
    assert (found.level.tolist(), found.location.tolist()) == ([3, 7], [[4, 20], [64, 192]])
    assert {column.dtype for column in found[1:]} == {np.dtype(np.int64)}
    path.write_text("[]")
    assert [column.shape for column in load_located_results(path)] == [(0, 7), (0,), (0, 2)]


@pytest.mark.parametrize(
    ("entry", "message", "hint"),
    [
        (ROW, "does not say where its detections came from", "fcos predict DATA --out PATH --locations"),
        ({**ROW, "level": 3}, "does not say where its detections came from", "--locations"),
        ({**LOCATED, "level": "P3"}, "wrong entry: Expected `int`", '"level": 3, "location": [x, y]}'),
        ({**LOCATED, "location": 170}, "wrong entry: Expected `array`", '"location": [x, y]}'),
        ({**LOCATED, "location": [4.5, 20]}, "wrong entry: Expected `int`", '"location": [x, y]}'),
        ({**LOCATED, "location": [4, 2**70]}, "wrong entry", '"location": [x, y]}'),
        ({k: v for k, v in LOCATED.items() if k != "score"}, "`score`", "must look like"),
    ],
)
def test_entries_that_do_not_say_where_they_came_from(tmp_path, entry, message, hint):
    path = tmp_path / "preds.json"
    path.write_text(json.dumps([LOCATED, entry]))
    with pytest.raises(DataError) as caught:
        load_located_results(path)
    assert message in caught.value.message
    assert "`$[1]" in caught.value.message
    assert hint.replace("PATH", str(path)) in caught.value.hint
    path.unlink()
    with pytest.raises(DataError, match="no prediction file") as caught:
        load_located_results(path)
    assert "--locations" in caught.value.hint


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ('{"images": [], "annotations": []}', "holds an object", "--data"),
        ('{"a": 1}', "holds an object", "looks like"),
        (json.dumps([{k: v for k, v in ROW.items() if k != "score"}]), "`score`", "must look like"),
        (json.dumps([{**ROW, "bbox": [1, 2, 3]}]), "bbox", "must look like"),
        (json.dumps([{**ROW, "image_id": "a.jpg"}]), "image_id", "must look like"),
        (json.dumps([{**ROW, "score": float("nan")}]), "NaN", "diverged"),
        (json.dumps([{**ROW, "bbox": [0, 0, float("inf"), 1]}]), "Infinity", "diverged"),
        (json.dumps([ROW] * 5)[:200], "cut off", "again"),
        ("", "empty", "[]"),
        ("image_id,score", "not JSON", "looks like"),
        (json.dumps([{**ROW, "image_id": 2**60}]), "2^53", "renumber"),
    ],
)
def test_files_that_are_no_result_list(tmp_path, text, message, hint):
    path = tmp_path / "preds.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        load_results(path)
    assert message in caught.value.message
    assert str(path) in caught.value.message
    assert hint in caught.value.hint


def test_bytes_that_are_not_text(tmp_path):
    path = tmp_path / "preds.json"
    path.write_bytes(b"\xff\xfe[]")
    with pytest.raises(DataError, match="not JSON"):
        load_results(path)


def test_no_such_file_and_a_folder(tmp_path):
    with pytest.raises(DataError, match="no prediction file") as caught:
        load_results(tmp_path / "none.json")
    assert "fcos predict" in caught.value.hint
    with pytest.raises(DataError, match="cannot be read"):
        load_results(tmp_path)
