"""`fcos predict` from the command line to the files."""

import json
import os

import numpy as np
import pytest
from PIL import Image

from fcos_cli.inference.predictor import Predictor


def write_images(folder, sizes):
    rng = np.random.default_rng(1)
    for name, (width, height) in sizes.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (height, width, 3), dtype=np.uint8)).save(path)
    return folder


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / "images", {"a.png": (80, 60), "in/b.jpg": (200, 120), "in/c.png": (50, 120)})


@pytest.fixture
def coco(tmp_path):
    """A COCO data set whose ids have gaps and whose classes are the tiny detector's in another order."""
    folder = tmp_path / "mine"
    write_images(folder / "val", {"x.png": (80, 60), "y.png": (60, 90)})
    content = {
        "images": [
            {"id": 77, "file_name": "x.png", "width": 80, "height": 60},
            {"id": 9000000001, "file_name": "y.png", "width": 60, "height": 90},
        ],
        "categories": [{"id": 3, "name": "owl"}, {"id": 40, "name": "cat"}, {"id": 41, "name": "dog"}],
        "annotations": [
            {"id": 1, "image_id": 77, "category_id": 40, "bbox": [10, 10, 30, 30], "area": 900, "iscrowd": 0},
            {"id": 2, "image_id": 9000000001, "category_id": 3, "bbox": [5, 8, 40, 60], "area": 2400, "iscrowd": 0},
        ],
    }
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances_val.json").write_text(json.dumps(content))
    return folder


def predicted(path):
    return json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


def test_a_folder(fcos, images, tiny_detector, tmp_path):
    out = tmp_path / "new" / "preds.json"
    result = fcos("predict", images, "--out", out, "--weights", tiny_detector)
    assert result.code == 0, result.err
    listed = json.loads((tmp_path / "new" / "preds.images.json").read_text())
    sizes = {row["file_name"]: (row["width"], row["height"]) for row in listed["images"]}
    assert sizes == {"a.png": (80, 60), "in/b.jpg": (200, 120), "in/c.png": (50, 120)}
    assert listed["categories"] == [{"id": 2, "name": "cat"}, {"id": 5, "name": "dog"}, {"id": 9, "name": "owl"}]
    by_id = {row["id"]: row for row in listed["images"]}
    entries = predicted(out)
    assert {entry["image_id"] for entry in entries} == set(by_id)
    for entry in entries:
        x, y, w, h = entry["bbox"]
        assert entry["category_id"] in (2, 5, 9)
        assert 0.05 < entry["score"] <= 1
        assert x >= 0
        assert y >= 0
        assert x + w <= by_id[entry["image_id"]]["width"] + 1e-9
        assert y + h <= by_id[entry["image_id"]]["height"] + 1e-9
    assert "images/s" in result.out
    assert f"weights: {tiny_detector}" in result.err


def test_json_and_the_ids_are_stable(fcos, images, tiny_detector, tmp_path):
    first = fcos("predict", images, "--out", tmp_path / "1.json", "--weights", tiny_detector, "--json")
    again = fcos("predict", images, "--out", tmp_path / "2.json", "--weights", tiny_detector, "--json")
    told = json.loads(first.out)
    assert told["out"] == str(tmp_path / "1.json")
    assert told["images"] == 3
    assert told["detections"] == len(predicted(tmp_path / "1.json")) > 0
    assert told["failed"] == []
    assert told["weights"] == str(tiny_detector)
    assert told["precision"] in ("float32", "bfloat16")
    assert (tmp_path / "1.json").read_bytes() == (tmp_path / "2.json").read_bytes()
    assert json.loads(again.out)["detections"] == told["detections"]


def test_a_data_set_gets_its_own_ids(fcos, coco, tiny_detector, tmp_path):
    out = tmp_path / "preds.json"
    for source in (coco, coco / "annotations" / "instances_val.json"):
        result = fcos("predict", source, "--out", out, "--weights", tiny_detector)
        assert result.code == 0, result.err
        entries = predicted(out)
        assert {entry["image_id"] for entry in entries} == {77, 9000000001}
        assert {entry["category_id"] for entry in entries} <= {3, 40, 41}
        assert not (tmp_path / "preds.images.json").exists()
    scored = fcos("eval", "--predictions", out, "--data", coco, "--json")
    direct = fcos("eval", tiny_detector, "--data", coco, "--json")
    assert json.loads(scored.out)["metrics"] == json.loads(direct.out)["metrics"]


def test_locations(fcos, coco, tiny_detector, tmp_path):
    plain, located = tmp_path / "plain.json", tmp_path / "located.json"
    for out, options in ((plain, ()), (located, ("--locations",))):
        result = fcos("predict", coco, "--out", out, "--weights", tiny_detector, *options)
        assert result.code == 0, result.err
    entries = predicted(located)
    assert {entry["level"] for entry in entries} <= {3, 4, 5, 6, 7}
    for entry in entries:
        stride = 2 ** entry.pop("level")
        assert [pixel % stride for pixel in entry.pop("location")] == [stride // 2] * 2
    assert entries == predicted(plain)
    scored = [fcos("eval", "--predictions", out, "--data", coco, "--json") for out in (plain, located)]
    assert [s.code for s in scored] == [0, 0]
    assert json.loads(scored[0].out)["metrics"] == json.loads(scored[1].out)["metrics"]


def test_results_written_among_the_images_do_not_change_the_next_prediction(fcos, images, tiny_detector):
    arguments = ("predict", images, "--out", images / "preds.json", "--weights", tiny_detector, "--json")
    first = json.loads(fcos(*arguments).out)
    Image.new("RGB", (50, 50)).save(images / "later.png")
    second = json.loads(fcos(*arguments).out)
    assert (first["images"], second["images"]) == (3, 4)


def test_files_and_patterns(fcos, images, tiny_detector, tmp_path):
    out = tmp_path / "preds.json"
    sources = (images / "a.png", images / "in" / "*.jpg")
    told = json.loads(fcos("predict", *sources, "--out", out, "--weights", tiny_detector, "--json").out)
    assert told["images"] == 2


def test_broken_images_are_named_and_the_others_done(fcos, images, tiny_detector, tmp_path):
    (images / "broken.jpg").write_bytes(b"\xff\xd8\xff not much of a JPEG")
    (images / "empty.png").touch()
    result = fcos("predict", images, "--out", tmp_path / "preds.json", "--weights", tiny_detector, "--json")
    assert result.code == 0
    told = json.loads(result.out)
    assert told["images"] == 3
    assert sorted(failure["file_name"] for failure in told["failed"]) == ["broken.jpg", "empty.png"]
    assert "2 of 5 images could not be read" in result.err
    assert "broken.jpg" in result.err
    assert "empty.png" in result.err


def test_only_broken_images(fcos, tmp_path, tiny_detector):
    (tmp_path / "bad.png").write_bytes(b"bad")
    result = fcos("predict", tmp_path / "bad.png", "--out", tmp_path / "preds.json", "--weights", tiny_detector)
    assert result.code == 3
    assert predicted(tmp_path / "preds.json") == []
    assert "none of the 1 images" in result.err


def test_threshold_and_pictures(fcos, images, tiny_detector, tmp_path):
    out, pictures = tmp_path / "preds.json", tmp_path / "pictures"
    common = ("predict", images, "--out", out, "--weights", tiny_detector, "--json")
    everything = json.loads(fcos(*common).out)["detections"]
    scores = sorted(entry["score"] for entry in predicted(out))
    middle = scores[len(scores) // 2]
    told = json.loads(fcos(*common, "--threshold", middle, "--draw", pictures).out)
    assert 0 < told["detections"] < everything
    assert min(entry["score"] for entry in predicted(out)) >= middle - 1e-6
    drawn = sorted(str(path.relative_to(pictures)) for path in pictures.rglob("*.*"))
    assert drawn == ["a.jpg", "in/b.jpg", "in/c.jpg"]
    with Image.open(pictures / "in" / "b.jpg") as picture:
        assert picture.size == (200, 120)


def test_pictures_of_one_stem_do_not_overwrite_each_other(fcos, tmp_path, tiny_detector):
    write_images(tmp_path / "i", {"a.png": (40, 40), "a.jpg": (40, 40), "a.bmp": (40, 40)})
    arguments = ("--out", tmp_path / "preds.json", "--weights", tiny_detector, "--draw", tmp_path / "p")
    assert fcos("predict", tmp_path / "i", *arguments).code == 0
    assert len(os.listdir(tmp_path / "p")) == 3


def test_without_weights_the_newest_run(fcos, images, tiny_detector, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    none = fcos("predict", images, "--out", "preds.json")
    assert none.code == 4
    assert "fcos train" in none.err
    assert "--weights" in none.err
    place = tmp_path / "runs" / "shapes-1" / "checkpoints"
    place.mkdir(parents=True)
    tiny_detector.rename(place / "best.safetensors")
    found = fcos("predict", images, "--out", "preds.json")
    assert found.code == 0, found.err
    assert "runs/shapes-1/checkpoints/best.safetensors (the newest run's" in found.err


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("nowhere", "--out", "p.json"), 3, "nowhere"),
        (("nothing.jpg", "--out", "p.json"), 3, "nothing.jpg"),
        (("images", "--out", "images"), 2, "is a folder"),
        (("images", "--out", "images/a.png/p.json"), 4, "cannot write"),
        (("images", "--out", "p.json", "--weights", "none.safetensors"), 4, "no weights at none.safetensors"),
        (("images", "--out", "p.json", "--device", "warp9"), 4, "available: auto, cpu"),
        (("images", "--out", "p.json", "--split", "val"), 2, "--split"),
        (("images", "--out", "p.json", "--threshold", "2"), 2, "threshold"),
        (("images",), 2, "--out"),
        (("--out", "p.json"), 2, "SOURCE"),
    ],
)
def test_mistakes_are_one_clear_line(fcos, images, tmp_path, monkeypatch, arguments, code, message):
    monkeypatch.chdir(tmp_path)
    result = fcos("predict", *arguments)
    assert result.code == code
    assert message in result.err
    assert "Traceback" not in result.err
    assert not (tmp_path / "p.json").exists()


def test_other_classes_are_an_error_before_anything_is_written(fcos, coco, tiny_detector, tmp_path):
    file = coco / "annotations" / "instances_val.json"
    file.write_text(file.read_text().replace("owl", "zebra"))
    result = fcos("predict", coco, "--out", tmp_path / "preds.json", "--weights", tiny_detector)
    assert result.code == 3
    assert "zebra" in result.err
    assert not (tmp_path / "preds.json").exists()


def test_ctrl_c_keeps_what_is_done(fcos, images, tiny_detector, tmp_path, monkeypatch):
    out = tmp_path / "preds.json"
    whole = Predictor.run

    def run(self, data, failed=None, **options):
        for count, result in enumerate(whole(self, data, failed, **options)):
            if count == 2:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(Predictor, "run", run)
    result = fcos("predict", images, "--out", out, "--weights", tiny_detector, "--json")
    assert result.code == 130
    told = json.loads(result.out)
    assert told["interrupted"] is True
    assert told["images"] == 2
    assert len(predicted(out)) == told["detections"]
    assert len(json.loads((tmp_path / "preds.images.json").read_text())["images"]) == 2
    assert "2 of 3 images" in result.err
