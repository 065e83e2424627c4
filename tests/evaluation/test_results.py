import json

import numpy as np
import pytest

from fcos_cli.errors import DataError
from fcos_cli.evaluation.results import load_results

ROW = {"image_id": 7, "category_id": 2, "bbox": [1.5, 2, 30, 40], "score": 0.25}


def test_columns_and_extra_keys(tmp_path):
    path = tmp_path / "preds.json"
    path.write_text(json.dumps([ROW, {**ROW, "image_id": 8, "score": 1, "segmentation": []}]))
    expected = [[7, 1.5, 2, 30, 40, 0.25, 2], [8, 1.5, 2, 30, 40, 1, 2]]
    np.testing.assert_array_equal(load_results(path), expected)


def test_an_empty_list_is_no_detections(tmp_path):
    path = tmp_path / "preds.json"
    path.write_text("[]")
    assert load_results(path).shape == (0, 7)


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
