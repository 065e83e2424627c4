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
    from fcos_cli.data.datasets import open_data
    from fcos_cli.data.records import Categories
    from fcos_cli.data.shapes import dataset as shapes
    from fcos_cli.model.fcos import FCOS
    from fcos_cli.weights.saved import load_detector, save_detector

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


def test_unreadable_images_count_as_missed(fcos, tiny_detector, make_images, tmp_path):
    make_images({"y.png": (80, 60)}, folder=".")
    (tmp_path / "x.png").write_bytes(b"bad")
    content = {
        "images": [
            {"id": i, "file_name": f"{name}.png", "width": 80, "height": 60} for i, name in ((1, "x"), (2, "y"))
        ],
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
    (tmp_path / "y.png").unlink()
    none = fcos("eval", tiny_detector, "--data", tmp_path / "data.json", "--out", tmp_path / "preds.json")
    assert none.code == 3
    assert "none of the 2 images could be read" in none.err
    assert "predictions" not in none.err
    assert not (tmp_path / "preds.json").exists()


@pytest.mark.parametrize(("images", "code", "message"), [(1, 0, "has no objects to find"), (0, 3, "has no images")])
def test_a_data_set_with_nothing_to_find(fcos, tiny_detector, make_images, tmp_path, images, code, message):
    make_images({"x.png": (80, 60)}, folder=".")
    content = {
        "images": [{"id": 1, "file_name": "x.png", "width": 80, "height": 60}][:images],
        "categories": [{"id": i, "name": name} for i, name in enumerate(("cat", "dog", "owl"))],
        "annotations": [],
    }
    (tmp_path / "data.json").write_text(json.dumps(content))
    result = fcos("eval", tiny_detector, "--data", tmp_path / "data.json")
    assert result.code == code
    assert message in result.err
    assert "no detection met" not in result.err


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


@pytest.fixture
def findable(fcos, tiny_detector, make_images, tmp_path):
    """A data set of what `tiny_detector` is surest of: in two images its best cat each. The annotation file.

    Its classes are in another order than the model's, have other ids, and are fewer.
    """
    folder = make_images({"1.png": (96, 64), "2.png": (96, 64)})
    found = tmp_path / "found.json"
    result = fcos("predict", folder, "--weights", tiny_detector, "--out", found, "--precision", "float32")
    assert result.code == 0, result.err
    cats = sorted((e for e in json.loads(found.read_text()) if e["category_id"] == 2), key=lambda e: -e["score"])
    boxes = [next(e["bbox"] for e in cats if e["image_id"] == image) for image in (1, 2)]
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 96, "height": 64} for i in (1, 2)],
        "categories": [{"id": 10, "name": "owl"}, {"id": 20, "name": "cat"}],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 20, "bbox": box, "area": box[2] * box[3], "iscrowd": 0}
            for i, box in enumerate(boxes, start=1)
        ],
    }
    (folder / "data.json").write_text(json.dumps(content))
    return folder / "data.json"


@pytest.fixture
def scored(fcos, tiny_detector, findable):
    """An evaluation on it: (its JSON, weights, data, log)."""
    result = fcos("eval", tiny_detector, "--data", findable, "--json", "--precision", "float32")
    assert result.code == 0, result.err
    return json.loads(result.out), tiny_detector, findable, result.err


def test_thresholds_are_shown_and_stored(scored):
    told, weights, _, log = scored
    owl, cat = told["per_class"]
    assert (owl["name"], owl["boxes"], owl["F1"], owl["threshold"]) == ("owl", 0, None, None)
    assert cat["boxes"] == 2
    assert 0 < cat["F1"] <= 1
    assert 0 < cat["threshold"] < 1
    assert told["F1"] == cat["F1"]
    assert told["thresholds"] == str(weights.with_name("weights.thresholds.json"))
    assert told["thresholds"] in log
    stored = json.loads(weights.with_name("weights.thresholds.json").read_text())
    # In the model's own order and ids: 2 cat, 5 dog, 9 owl.
    assert [(entry["id"], entry["name"]) for entry in stored["classes"]] == [(2, "cat"), (5, "dog"), (9, "owl")]
    assert [entry["threshold"] for entry in stored["classes"]] == [cat["threshold"], None, None]


def test_predict_with_the_stored_thresholds(fcos, scored, tmp_path):
    told, weights, data, _ = scored
    common = ("predict", data, "--weights", weights, "--precision", "float32", "--json")
    everything = fcos(*common, "--out", tmp_path / "all.json")
    assert everything.code == 0, everything.err
    result = fcos(*common, "--out", tmp_path / "auto.json", "--threshold", "auto")
    assert result.code == 0, result.err
    least = told["per_class"][1]["threshold"]
    expected = [entry for entry in json.loads((tmp_path / "all.json").read_text()) if entry["score"] >= least]
    assert 0 < len(expected) < len(json.loads((tmp_path / "all.json").read_text()))
    assert json.loads((tmp_path / "auto.json").read_text()) == expected
    assert re.search(r"thresholds: 0\.\d\d to 0\.\d\d, best F1 of 1 class on \S+", result.err)
    assert "2 without objects or hits there" in " ".join(result.err.split())


def test_thresholds_are_never_used_with_other_weights(scored):
    _, weights, _, _ = scored
    weights.write_bytes(weights.read_bytes() + b"\0")
    from fcos_cli.data.records import Categories
    from fcos_cli.errors import WeightsError
    from fcos_cli.weights.thresholds import load_thresholds

    with pytest.raises(WeightsError, match="other weights"):
        load_thresholds(weights, Categories((2, 5, 9), ("cat", "dog", "owl")))


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"format": "fcos-thresholds 9"}'])
def test_a_damaged_file_of_thresholds(fcos, scored, tmp_path, content):
    _, weights, data, _ = scored
    weights.with_name("weights.thresholds.json").write_text(content)
    result = fcos("predict", data, "--weights", weights, "--out", tmp_path / "p.json", "--threshold", "auto")
    assert result.code == 4
    assert f"fcos eval {weights}" in " ".join(result.err.split())
    assert not (tmp_path / "p.json").exists()


def test_without_thresholds_the_command_is_named(fcos, tiny_detector, make_images, tmp_path):
    folder = make_images({"a.png": (64, 48)})
    result = fcos("predict", folder, "--weights", tiny_detector, "--out", tmp_path / "p.json", "--threshold", "auto")
    assert result.code == 4
    assert "no thresholds are stored" in " ".join(result.err.split())
    assert f"fcos eval {tiny_detector}" in " ".join(result.err.split())


def test_a_folder_that_cannot_be_written_is_one_warning(fcos, tiny_detector, findable, monkeypatch):
    from fcos_cli.weights import thresholds

    def refuse(path, mode="wb"):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(thresholds, "atomic_file", refuse)
    result = fcos("eval", tiny_detector, "--data", findable, "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)["thresholds"] is None
    assert result.err.count("the thresholds are not stored") == 1


def test_augmentation_is_said_and_remembered(fcos, tiny_detector, findable, tmp_path):
    data = findable
    result = fcos("eval", tiny_detector, "--data", data, "--json", "--tta")
    assert result.code == 0, result.err
    assert "18 passes an image: short side 32, 40, 48, 56, 64, 72, 80, 88, 96, mirrored" in result.err
    assert json.loads(result.out)["tta"] is True
    common = ("predict", data, "--weights", tiny_detector, "--out", tmp_path / "p.json", "--threshold", "auto")
    augmented = fcos(*common, "--tta")
    assert augmented.code == 0, augmented.err
    assert "best F1 of 1 class" in augmented.err
    # It raises scores: a plain prediction has thresholds of its own, which nobody has computed here.
    plain = fcos(*common)
    assert plain.code == 4
    assert f"fcos eval {tiny_detector}\n" in plain.err
    assert fcos(*common, "--tta", "--locations").code == 2
