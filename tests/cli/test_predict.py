"""`fcos predict` from the command line to the files."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from fcos_cli.runtime.predictor import Predictor


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
    monkeypatch.setenv("FCOS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("FCOS_MIRROR", "http://127.0.0.1:9")
    none = fcos("predict", images, "--out", "preds.json")
    assert none.code == 4
    assert "no run here: torchvision/fcos_resnet50_fpn, 130 MB" in none.err
    assert "fetch the file by hand to" in none.err
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


@pytest.mark.parametrize("form", ["csv", "yolo", "voc"])
def test_other_formats(fcos, coco, tiny_detector, tmp_path, form):
    assert fcos("predict", coco, "--out", tmp_path / "p.json", "--weights", tiny_detector).code == 0
    out = tmp_path / "new" / ("p.csv" if form == "csv" else "labels")
    result = fcos("predict", coco, "--out", out, "--weights", tiny_detector, "--format", form, "--json")
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert (told["format"], told["images"], told["images_file"]) == (form, 2, None)
    count = len(predicted(tmp_path / "p.json"))
    assert told["detections"] == count
    if form == "csv":
        rows = out.read_text().splitlines()
        assert rows[0].startswith("file_name,image_id,width,height,category_id,category,score,x1")
        assert len(rows) == count + 1
        assert {row.split(",")[1] for row in rows[1:]} == {"77", "9000000001"}
    elif form == "yolo":
        assert sorted(os.listdir(out)) == ["classes.txt", "x.txt", "y.txt"]
        # The data set's classes, in the order of its ids.
        assert (out / "classes.txt").read_text() == "owl\ncat\ndog\n"
        assert sum(len((out / name).read_text().splitlines()) for name in ("x.txt", "y.txt")) == count
    else:
        assert sum((out / name).read_text().count("<object>") for name in ("x.xml", "y.xml")) == count


def test_crops_are_a_folder_a_class(fcos, images, tiny_detector, tmp_path):
    crops = tmp_path / "crops"
    arguments = ("predict", images, "--out", tmp_path / "p.json", "--weights", tiny_detector, "--save-crops", crops)
    told = json.loads(fcos(*arguments, "--threshold", "0.2", "--json").out)
    assert told["crops"] == str(crops)
    assert len(list(crops.rglob("*.jpg"))) == told["detections"] > 0
    assert set(os.listdir(crops)) <= {"cat", "dog", "owl"}


def test_resume_without_anything_to_resume(fcos, images, tiny_detector, tmp_path):
    arguments = ("predict", images, "--out", tmp_path / "p.json", "--weights", tiny_detector, "--resume", "--json")
    result = fcos(*arguments)
    assert result.code == 0
    assert "starting with the first image" in result.err
    assert json.loads(result.out)["images"] == 3


def start_and_stop(arguments, partial, signal_number):
    """Runs `fcos` in a process of its own and sends it a signal when some images are done; returns its exit code."""
    # A shell starts background jobs, and so these tests, with SIGINT ignored.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from fcos_cli.__main__ import main; sys.argv[0] = 'fcos'; main()"
    process = subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], stderr=subprocess.PIPE, text=True)
    try:
        end = time.monotonic() + 120
        while process.poll() is None and time.monotonic() < end:
            if partial.exists() and partial.read_bytes().count(b'"file_name"') > 5:
                process.send_signal(signal_number)
                break
            time.sleep(0.005)
        _, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert "Traceback" not in err
    return process.returncode, err


@pytest.mark.skipif(sys.platform == "win32", reason="signals are POSIX")
@pytest.mark.parametrize("signal_number", [signal.SIGINT, signal.SIGKILL])
def test_stopped_at_any_time_and_resumed(fcos, tiny_detector, tmp_path, signal_number):
    folder = write_images(tmp_path / "i", {f"{i}.png": (90 + i % 7, 60 + i % 5) for i in range(100)})
    (folder / "broken.png").write_bytes(b"broken")
    out, partial = tmp_path / "o" / "p.json", tmp_path / "o" / "p.json.partial"
    options = ("--weights", tiny_detector, "--precision", "float32", "--batch-size", "2")
    code, err = start_and_stop(("predict", folder, "--out", out, *options), partial, signal_number)
    assert partial.exists()
    if signal_number == signal.SIGINT:
        assert code == 130
        assert "--resume" in err
        done = len(json.loads((tmp_path / "o" / "p.images.json").read_text())["images"])
        assert 5 < done < 100
        assert len({entry["image_id"] for entry in predicted(out)}) <= done
    else:
        assert code == -signal.SIGKILL
        assert not out.exists()
    before = partial.read_bytes()
    for change, named in ((("--threshold", "0.3"), "threshold"), (("--batch-size", "3"), "batch size")):
        refused = fcos("predict", folder, "--out", out, *options, *change, "--resume")
        assert (refused.code, partial.read_bytes()) == (2, before)
        assert f"p.json.partial was made with {named}" in refused.err
    result = fcos("predict", folder, "--out", out, *options, "--resume", "--json")
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert (told["images"], [failure["file_name"] for failure in told["failed"]]) == (100, ["broken.png"])
    assert 5 < told["resumed"] < 100
    fcos("predict", folder, "--out", tmp_path / "w" / "p.json", *options)
    for name in ("p.json", "p.images.json"):
        assert (tmp_path / "o" / name).read_bytes() == (tmp_path / "w" / name).read_bytes()
    assert sorted(os.listdir(tmp_path / "o")) == ["p.images.json", "p.json"]


def test_resuming_with_other_weights_is_refused(fcos, images, tiny_detector, tmp_path, monkeypatch):
    out = tmp_path / "p.json"
    whole = Predictor.run

    def run(self, *arguments, **options):
        yield next(whole(self, *arguments, **options))
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "run", run)
        assert fcos("predict", images, "--out", out, "--weights", tiny_detector).code == 130
    content = bytearray(tiny_detector.read_bytes())
    content[-1] ^= 1
    tiny_detector.write_bytes(content)
    refused = fcos("predict", images, "--out", out, "--weights", tiny_detector, "--resume")
    assert refused.code == 2
    assert "was made with weights" in refused.err
    again = fcos("predict", images, "--out", out, "--weights", tiny_detector)
    assert again.code == 0
    assert "--resume would have gone on" in again.err


def test_16_bit_images_are_read_as_the_detector_was_trained(fcos, tiny_detector, tmp_path):
    """From the command line and from Python, a narrow 16-bit image is to a detector that stretches what it shows."""
    from fcos_cli import load
    from fcos_cli.weights.saved import load_detector, save_detector

    detector = load_detector(tiny_detector)
    data = detector.recipe.data.model_copy(update={"stretch_16_bit": True})
    recipe = detector.recipe.model_copy(update={"data": data})
    stretching = tmp_path / "stretching.safetensors"
    save_detector(stretching, detector.model, recipe, detector.categories)
    values = np.random.default_rng(2).integers(0, 101, (60, 80))
    values[0, :2] = 0, 100
    for name, content in (
        ("narrow", (7000 + values).astype(np.uint16)),
        ("shown", np.rint(values * 2.55).astype(np.uint8)),
    ):
        (tmp_path / name).mkdir()
        Image.fromarray(content).save(tmp_path / name / "a.png")
    results = {}
    for weights in (tiny_detector, stretching):
        for name in ("narrow", "shown"):
            out = tmp_path / f"{weights.stem}-{name}.json"
            assert fcos("predict", tmp_path / name, "--out", out, "--weights", weights).code == 0
            results[weights, name] = [(item["bbox"], item["score"]) for item in predicted(out)]
    assert results[stretching, "narrow"] == results[stretching, "shown"] == results[tiny_detector, "shown"]
    assert results[tiny_detector, "narrow"] != results[tiny_detector, "shown"]
    boxes = load(stretching).predict(tmp_path / "narrow" / "a.png").boxes
    with Image.open(tmp_path / "narrow" / "a.png") as image:
        np.testing.assert_array_equal(load(stretching).predict(image).boxes, boxes)
    np.testing.assert_array_equal(load(tiny_detector).predict(tmp_path / "shown" / "a.png").boxes, boxes)


def test_a_folder_of_images_with_label_files_without_class_names(fcos, images, tiny_detector, tmp_path):
    """They are no data set to train on, and images all the same."""
    (images / "a.txt").write_text("0 0.5 0.5 0.1 0.1\n")
    result = fcos("predict", images, "--out", tmp_path / "preds.json", "--weights", tiny_detector)
    assert result.code == 0, result.err
    assert "without class names; its images are taken without them" in result.err
    assert len(json.loads((tmp_path / "preds.images.json").read_text())["images"]) == 3
