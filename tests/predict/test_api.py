"""`from fcos_cli import load`: every form of an image gives what `fcos predict` writes; mistakes are told."""

import json
import pickle
import subprocess
import sys
import traceback
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from fcos_cli import load
from fcos_cli.data.images import read_image
from fcos_cli.data.sources.files import image_files
from fcos_cli.errors import DataError, SetupError, UsageError, WeightsError
from fcos_cli.evaluation.thresholds import OperatingPoint
from fcos_cli.predict.job import predict_to_file
from fcos_cli.runtime.predictor import Predictor
from fcos_cli.weights.thresholds import save_thresholds


@pytest.fixture
def model(tiny_detector):
    return load(tiny_detector, device="cpu", precision="float32")


@pytest.fixture
def photo(make_images):
    """A JPEG that EXIF turns by a quarter: 90x60 stored, 60x90 upright."""
    image = Image.open(make_images({"stored.png": (90, 60)}) / "stored.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    path = Path(image.filename).with_name("photo.jpg")
    image.save(path, exif=exif, quality=90)
    return path


def same(a, b):
    np.testing.assert_array_equal(a.boxes, b.boxes)
    np.testing.assert_array_equal(a.scores, b.scores)
    np.testing.assert_array_equal(a.labels, b.labels)
    assert (a.names, a.size) == (b.names, b.size)


def test_importing_is_light():
    code = "import sys, fcos_cli; fcos_cli.load; print([m for m in ('torch', 'numpy', 'PIL') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_the_arrays(model, photo):
    found = model.predict(photo)
    count = len(found)
    assert model.names == ["cat", "dog", "owl"]
    assert count > 3
    assert (found.boxes.shape, found.boxes.dtype) == ((count, 4), np.float64)
    assert (found.scores.shape, found.labels.dtype, len(found.names)) == ((count,), np.int64, count)
    assert found.names == [model.names[label] for label in found.labels]
    assert found.size == (60, 90)
    assert (found.boxes >= 0).all()
    assert (found.boxes <= [60, 90, 60, 90]).all()
    assert (np.diff(found.scores) <= 0).all()


def test_every_form_of_an_image_gives_the_same(model, photo):
    expected = model.predict(str(photo))
    pixels = read_image(photo)
    assert pixels.shape == (90, 60, 3)
    forms = [photo, Image.open(photo), pixels, torch.from_numpy(pixels).permute(2, 0, 1), np.asfortranarray(pixels)]
    for form in forms:
        same(model.predict(form), expected)
    for found in model.predict(forms, batch_size=1):
        same(found, expected)


def test_gray_is_gray(model, make_images):
    gray = read_image(make_images({"a.png": (70, 50)}) / "a.png")[..., 0]
    expected = model.predict(np.repeat(gray[..., None], 3, axis=2))
    for form in (gray, gray[..., None], Image.fromarray(gray), torch.from_numpy(gray)[None]):
        same(model.predict(form), expected)


def test_a_list_keeps_its_order_and_is_what_the_command_writes(model, make_images, tmp_path):
    folder = make_images({"a.png": (90, 60), "b.png": (60, 90), "c.png": (64, 64), "d.png": (120, 40)})
    data = image_files([str(folder)])
    predictor = Predictor(model.detector.model, model.detector.recipe.test, device=torch.device("cpu"), threshold=0.42)
    out = tmp_path / "preds.json"
    predict_to_file(predictor, model.detector.categories, data, out)
    written = {}
    for entry in json.loads(out.read_text()):
        written.setdefault(entry["image_id"], []).append(entry)
    paths = sorted(folder.glob("*.png"), reverse=True)
    found = model.predict(paths, threshold=0.42, precision=predictor.precision.name)
    assert [Path(one.source) for one in found] == paths
    assert sum(map(len, found)) == sum(map(len, written.values())) > 4
    for one in found:
        position = data.file_names.index(Path(one.source).name)
        entries = written.get(int(data.image_ids[position]), [])
        np.testing.assert_allclose(one.boxes[:, :2], [e["bbox"][:2] for e in entries], atol=1e-3)
        np.testing.assert_allclose(one.scores, [e["score"] for e in entries], atol=1e-6)
        assert [model.detector.categories.ids[label] for label in one.labels] == [e["category_id"] for e in entries]


def test_an_empty_list(model):
    assert model.predict([]) == []
    assert isinstance(model.predict((np.zeros((40, 40, 3), np.uint8),)), list)


def test_thresholds(model, photo):
    everything = model.predict(photo)
    middle = float(np.median(everything.scores))
    assert len(model.predict(photo, threshold=middle)) == (everything.scores >= middle).sum()
    assert len(model.predict(photo, threshold=0)) >= len(everything)
    assert len(model.predict(photo, threshold=1.0)) == 0
    with pytest.raises(WeightsError, match="no thresholds are stored"):
        model.predict(photo, threshold="auto")
    points = [OperatingPoint(middle if name == "dog" else 1.0, 0.5, 0.5, 0.5) for name in model.names]
    save_thresholds(model.detector.path, model.detector.categories, points, data="x", images=1)
    found = model.predict(photo, threshold="auto")
    assert set(found.names) <= {"dog"}
    assert len(found) == ((everything.labels == 1) & (everything.scores >= middle)).sum()


def test_the_network_is_prepared_once(model, photo, monkeypatch):
    first = model.predict(photo)
    predictor = model._prepared[1]
    model.predict(photo, threshold=0.9)
    assert model._prepared[1] is predictor
    augmented = model.predict(photo, tta=True)
    assert model._prepared[1] is not predictor
    assert len(augmented) > 0
    same(model.predict(photo), first)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((20, 20, 3)), "float64"),
        (np.zeros((3, 20, 20), np.uint8), "transpose(1, 2, 0)"),
        (np.zeros((2, 20, 20, 3), np.uint8), "predict(list(array))"),
        (np.zeros((20, 20, 4), np.uint8), "Image.fromarray"),
        (np.zeros((0, 20, 3), np.uint8), "[0, 20, 3]"),
        (np.zeros(20, np.uint8), "[20]"),
        (np.zeros((20, 20, 3), bool), "255 * array.astype(np.uint8)"),
        (np.zeros((20, 20), np.uint16), "array >> 8"),
        (torch.zeros(3, 20, 20), "torch.float32"),
        (torch.zeros(20, 20, 3, dtype=torch.uint8), "permute(2, 0, 1)"),
        (torch.zeros(2, 3, 20, 20, dtype=torch.uint8), "predict(list(tensor))"),
        ({"image": 1}, "dict"),
        (None, "NoneType"),
    ],
)
def test_what_is_no_image(model, image, message):
    for given, name in ((image, "the image is"), ([np.zeros((9, 9), np.uint8), image], "image 1 of the list is")):
        with pytest.raises(UsageError) as caught:
            model.predict(given)
        told = "".join(traceback.format_exception(caught.value))
        assert message in told
        assert name in told


@pytest.mark.parametrize("threshold", [1.5, -0.1, "best", True, float("nan")])
def test_a_threshold_that_is_no_score(model, photo, threshold):
    with pytest.raises(UsageError, match="threshold"):
        model.predict(photo, threshold=threshold)


@pytest.mark.parametrize("batch_size", [0, -1, 1.5, "2"])
def test_a_batch_size_that_is_none(model, photo, batch_size):
    with pytest.raises(UsageError, match="batch_size is a whole number"):
        model.predict(photo, batch_size=batch_size)


def test_an_unknown_precision(model, photo, tiny_detector):
    for ask in (lambda: load(tiny_detector, precision="fp16"), lambda: model.predict(photo, precision="fp16")):
        with pytest.raises(UsageError, match="no precision 'fp16'") as caught:
            ask()
        assert "bfloat16" in caught.value.hint


def test_threads_with_other_choices_do_not_disturb_each_other(model, photo, monkeypatch):
    """The predictor of one thread is replaced by that of another in the moment after it was stored."""
    expected = model.predict(photo)

    class Disturbed(type(model)):
        def __setattr__(self, name, value):
            super().__setattr__(name, None if name == "_prepared" else value)

    model.__class__ = Disturbed
    same(model.predict(photo, batch_size=1), expected)


def test_files_that_are_missing_or_broken_are_named(model, photo, tmp_path):
    with pytest.raises(DataError, match=r"nowhere\.jpg: no such image"):
        model.predict("nowhere.jpg")
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    pixels = np.zeros((60, 40, 3), np.uint8)
    for images in ([photo, broken], [pixels, broken]):
        with pytest.raises(DataError, match=r"image 1 of the list: .*broken\.png: not an image"):
            model.predict(images)
    with pytest.raises(UsageError, match="is a folder"):
        model.predict(tmp_path)
    whole = photo.read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="the image: broken image"):
        model.predict(Image.open(tmp_path / "cut.jpg"))


def test_wrong_weights_and_devices(tiny_detector):
    with pytest.raises(WeightsError, match="no weights at nowhere"):
        load("nowhere")
    with pytest.raises(SetupError, match="warp9"):
        load(tiny_detector, device="warp9")


def test_how_it_looks(model, photo):
    found = model.predict(photo, threshold=0.3)
    assert repr(found).startswith(f"<Prediction of {photo}, 60x90 pixels: {found.names[0]} {found.scores[0]:.2f}")
    assert repr(model.predict(photo, threshold=1.0)).endswith("nothing found>")
    assert repr(model) == f"<Model {model.detector.path}: 3 classes>"
    picture = found.draw()
    assert (picture.size, picture.mode) == ((60, 90), "RGB")
    assert (np.asarray(picture) != read_image(photo)).any()
    same_picture = model.predict(read_image(photo), threshold=0.3).draw()
    assert np.array_equal(np.asarray(picture), np.asarray(same_picture))


def test_it_goes_to_other_processes(model, photo):
    wanted = model.predict(photo)
    found = pickle.loads(pickle.dumps(model)).predict(photo)
    assert len(found) == len(wanted) > 0
    assert np.array_equal(found.boxes, wanted.boxes)
    assert np.array_equal(found.scores, wanted.scores)
