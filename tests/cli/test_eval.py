"""`fcos eval`: of a model and of a file of predictions."""

import json
import re
import subprocess
import sys

import pytest

PUBLISHED = [0.505, 0.697, 0.573, 0.586, 0.519, 0.501, 0.387, 0.594, 0.595, 0.640, 0.566, 0.564]
NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


@pytest.fixture
def fixture_files(shared_data):
    folder = shared_data / "coco_eval_fixture"
    return folder / "instances_val2014_fakebbox100_results.json", folder / "instances_val2014_100.json"


def test_the_published_figures(fcos, fixture_files):
    predictions, data = fixture_files
    result = fcos("eval", "--predictions", predictions, "--data", data, "--json")
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert list(told["metrics"]) == NAMES
    assert [round(value, 3) for value in told["metrics"].values()] == PUBLISHED
    assert told["images"] == 100
    assert told["detections"] == 734
    assert len(told["per_class"]) == 80


def test_the_published_figures_for_people(fcos, fixture_files):
    predictions, data = fixture_files
    result = fcos("eval", "--predictions", predictions, "--data", data)
    shown = {name: float(value) for name, value in re.findall(r"(A[PR]\w*) +│ +([\d.]+) │", result.out)}
    assert shown == pytest.approx({name: 100 * value for name, value in zip(NAMES, PUBLISHED, strict=True)})
    assert "toothbrush" in result.out


def test_predictions_need_no_torch(fixture_files):
    predictions, data = fixture_files
    code = (
        "import sys; from fcos_cli.app import main\n"
        f"sys.argv = ['fcos', 'eval', '--predictions', {str(predictions)!r}, '--data', {str(data)!r}]\n"
        "try: main()\n"
        "except SystemExit as stop: assert not stop.code, stop.code\n"
        "assert 'torch' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr


def test_a_model_on_its_recipes_data(fcos, tiny_detector, tmp_path, monkeypatch):
    from fcos_cli.data import shapes
    from fcos_cli.data.datasets import open_data
    from fcos_cli.data.records import Categories
    from fcos_cli.model.fcos import FCOS
    from fcos_cli.model.saved import load_detector, save_detector

    monkeypatch.setitem(shapes.SPLITS, "val", 4)
    recipe = load_detector(tiny_detector).recipe
    categories = open_data("shapes", "val").categories
    renamed = Categories(tuple(10 * i for i in range(len(categories))), tuple(reversed(categories.names)))
    save_detector(tiny_detector, FCOS(recipe.model, len(categories)), recipe, renamed, {"iteration": "12"})
    out = tmp_path / "detections.json"
    result = fcos("eval", tiny_detector, "--json", "--out", out)
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert list(told["metrics"]) == NAMES
    assert told["weights"] == str(tiny_detector)
    assert told["images"] == 4
    assert told["detections"] == len(json.loads(out.read_text()))
    assert {entry["category_id"] for entry in json.loads(out.read_text())} <= set(categories.ids)
    assert "(the recipe's; choose with --data)" in result.err
    # Random weights: their AP is next to nothing, and the user is told what to look at.
    assert any("iteration 12 of 90000" in note for note in told["notes"])
    again = fcos("eval", "--predictions", out, "--data", "shapes", "--split", "val", "--json")
    assert json.loads(again.out)["metrics"] == told["metrics"]


def test_unreadable_images_count_as_missed(fcos, tiny_detector, tmp_path):
    (tmp_path / "x.png").write_bytes(b"bad")
    content = {
        "images": [{"id": 1, "file_name": "x.png", "width": 80, "height": 60}],
        "categories": [{"id": i, "name": name} for i, name in enumerate(("cat", "dog", "owl"))],
        "annotations": [
            {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 30, 30], "area": 900, "iscrowd": 0},
        ],
    }
    (tmp_path / "data.json").write_text(json.dumps(content))
    result = fcos("eval", tiny_detector, "--data", tmp_path / "data.json", "--json")
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert told["metrics"]["AP"] == 0
    assert told["metrics"]["APl"] is None
    assert [failure["file_name"] for failure in told["failed"]] == ["x.png"]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("--predictions", "p.json"), 2, "--data"),
        (("run", "--predictions", "p.json", "--data", "shapes"), 2, "not both"),
        (("--predictions", "p.json", "--data", "shapes", "--out", "q.json"), 2, "--out"),
        (("--predictions", "p.json", "--data", "shapes"), 3, "no prediction file p.json"),
        ((), 4, "fcos train"),
        (("nowhere",), 4, "no weights at nowhere"),
        (("--device", "warp9"), 4, "warp9"),
    ],
)
def test_mistakes_are_one_clear_line(fcos, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    result = fcos("eval", *arguments)
    assert result.code == code
    assert message in result.err
    assert "Traceback" not in result.err


def test_bare_images_cannot_be_evaluated(fcos, tiny_detector, tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.png").touch()
    result = fcos("eval", tiny_detector, "--data", tmp_path / "images")
    assert result.code == 3
    assert "no annotations" in result.err
