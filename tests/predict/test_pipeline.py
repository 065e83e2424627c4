"""Drawing and writing beside the network, and a whole prediction in constant memory."""

import json
import os
import threading
import time

import numpy as np
import pytest
import torch
from PIL import Image

from fcos_cli.data.sources.files import image_files
from fcos_cli.errors import SetupError
from fcos_cli.evaluation.detections import ImageResult
from fcos_cli.model.postprocess import Detections
from fcos_cli.predict import writer as writer_module
from fcos_cli.predict.job import predict_to_file
from fcos_cli.predict.pictures import Pictures, folder_name
from fcos_cli.predict.pipeline import Finisher
from fcos_cli.runtime.predictor import Predictor
from fcos_cli.weights.saved import load_detector


def test_results_are_written_in_order_whatever_their_preparation_takes():
    written, prepared = [], set()

    def prepare(number):
        time.sleep(0.01 if number % 4 == 0 else 0)
        prepared.add(number)

    def write(number):
        assert number in prepared
        written.append(number)

    with Finisher(prepare, write, limit=5) as finisher:
        for number in range(30):
            finisher.put(number)
    assert written == list(range(30))


def test_no_more_than_the_limit_is_in_there():
    go, written = threading.Event(), []

    def write(number):
        go.wait(10)
        written.append(number)

    with Finisher(None, write, limit=3) as finisher:
        for number in range(3):
            finisher.put(number)
        waiting = threading.Thread(target=finisher.put, args=(3,))
        waiting.start()
        waiting.join(0.1)
        assert waiting.is_alive()
        go.set()
        waiting.join(10)
    assert written == [0, 1, 2, 3]


@pytest.mark.parametrize("place", ["prepare", "write"])
def test_an_error_comes_out_and_nothing_is_written_after_it(place):
    written = []

    def fail(number):
        if number == 2:
            raise OSError("disk")

    def write(number):
        if place == "write":
            fail(number)
        written.append(number)

    def run():
        with Finisher(fail if place == "prepare" else None, write) as finisher:
            for number in range(5):
                finisher.put(number)

    with pytest.raises(OSError, match="disk"):
        run()
    assert written == [0, 1]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("finisher")]


def test_what_was_handed_over_is_written_after_ctrl_c():
    written = []

    def run():
        with Finisher(None, lambda number: (time.sleep(0.01), written.append(number))) as finisher:
            for number in range(5):
                finisher.put(number)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    assert written == [0, 1, 2, 3, 4]


def test_crops_show_what_is_in_the_box(tmp_path):
    pixels = np.zeros((40, 60, 3), dtype=np.uint8)
    pixels[10:30, 20:50] = (200, 30, 30)
    (tmp_path / "in" / "x").mkdir(parents=True)
    Image.fromarray(pixels).save(tmp_path / "in" / "x" / "a.png")
    Image.fromarray(pixels).save(tmp_path / "in" / "b.png")
    data = image_files([str(tmp_path / "in")])
    result = ImageResult(
        index=list(data.file_names).index("x/a.png"),
        image_id=1,
        size=(60, 40),
        boxes=np.array([[20.4, 10.0, 50.0, 29.6], [59.9, 39.9, 60.0, 40.0], [0, 0, 5, 5]]),
        scores=np.array([0.9, 0.5, 0.1]),
        labels=np.array([1, 0, 1]),
        level=np.zeros(3),
        location=np.zeros((3, 2)),
    )
    Pictures(data, ("cat", "a/b"), 0.3, crops=tmp_path / "crops")(result)
    made = sorted(str(path.relative_to(tmp_path / "crops")) for path in (tmp_path / "crops").rglob("*.jpg"))
    assert made == ["a_b/x/a_1.jpg", "cat/x/a_2.jpg"]
    with Image.open(tmp_path / "crops" / "a_b" / "x" / "a_1.jpg") as crop:
        assert crop.size == (30, 20)
        np.testing.assert_allclose(np.asarray(crop).mean(axis=(0, 1)), (200, 30, 30), atol=6)
    with Image.open(tmp_path / "crops" / "cat" / "x" / "a_2.jpg") as crop:
        assert crop.size == (1, 1)
    assert [folder_name(name) for name in ("..", "a\\b:c", "", "traffic light")] == [
        "_..",
        "a_b_c",
        "_",
        "traffic light",
    ]


class Instant(Predictor):
    """One detection an image, and no network."""

    def detect(self, images):
        count = len(images)
        boxes = torch.tensor([[1.0, 2.0, 11.0, 12.0]]).repeat(count, 1)
        place = torch.zeros(count, dtype=torch.int64)
        return Detections(
            torch.arange(count), boxes, torch.full((count,), 0.5), place, place + 3, torch.zeros((count, 2))
        )


@pytest.fixture
def instant(tiny_detector):
    detector = load_detector(tiny_detector)
    test = detector.recipe.test.model_copy(update={"short_side": 128, "long_side": 160})
    return Instant(detector.model, test, batch_size=8, precision="float32"), detector.categories


def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs Linux's /proc")
def test_ten_thousand_images_in_constant_memory(tmp_path, instant):
    """At network size they would be 600 MB."""
    predictor, categories = instant
    (tmp_path / "in").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (24, 30, 3), dtype=np.uint8)).save(tmp_path / "0.png")
    for number in range(10_000):
        os.link(tmp_path / "0.png", tmp_path / "in" / f"{number}.png")
    data = image_files([str(tmp_path / "in")])
    seen, done = [], 0

    def step(count):
        nonlocal done
        done += count
        if done % 1000 == 0:
            seen.append(resident())

    summary = predict_to_file(predictor, categories, data, tmp_path / "preds.json", step=step)
    assert (summary.images, done) == (10_000, 10_000)
    assert max(seen) - seen[1] < 60
    assert len(json.loads((tmp_path / "preds.json").read_text())) == 10_000


def test_a_full_disk_is_one_line_that_says_what_is_kept(tmp_path, make_images, instant, monkeypatch):
    predictor, categories = instant
    data = image_files([str(make_images({f"{i}.png": (40, 30) for i in range(20)}))])
    out, real = tmp_path / "preds.json", writer_module.ResultWriter.add

    def add(self, result):
        if self.images == 7:
            raise OSError(28, "No space left on device")
        real(self, result)

    with monkeypatch.context() as patch:
        patch.setattr(writer_module.ResultWriter, "add", add)
        with pytest.raises(SetupError, match=r"cannot write .*preds\.json: no space left on device") as caught:
            predict_to_file(predictor, categories, data, out)
    assert "preds.json.partial: after that, add --resume" in caught.value.hint
    assert not out.exists()
    summary = predict_to_file(predictor, categories, data, out, resume=True)
    assert (summary.resumed, summary.images) == (7, 20)
    predict_to_file(predictor, categories, data, tmp_path / "whole.json")
    assert out.read_bytes() == (tmp_path / "whole.json").read_bytes()


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_that_may_not_be_written_to(tmp_path, make_images, instant):
    predictor, categories = instant
    data = image_files([str(make_images({"a.png": (40, 30)}))])
    (tmp_path / "shut").mkdir(mode=0o500)
    with pytest.raises(SetupError, match="cannot write"):
        predict_to_file(predictor, categories, data, tmp_path / "preds.json", crops=tmp_path / "shut")


def test_resuming_runs_only_what_is_left(tmp_path, make_images, instant, monkeypatch):
    predictor, categories = instant
    data = image_files([str(make_images({f"{i}.png": (40 + i, 30) for i in range(20)}))])
    whole, out = tmp_path / "whole.json", tmp_path / "preds.json"
    predict_to_file(predictor, categories, data, whole)
    run = Predictor.run

    def stopped(self, *arguments, **options):
        for count, result in enumerate(run(self, *arguments, **options)):
            if count == 11:
                raise KeyboardInterrupt
            yield result

    monkeypatch.setattr(Predictor, "run", stopped)
    summary = predict_to_file(predictor, categories, data, out)
    assert (summary.interrupted, summary.images, summary.partial) == (True, 11, tmp_path / "preds.json.partial")
    monkeypatch.setattr(Predictor, "run", run)
    seen, detect = [], predictor.detect
    predictor.detect = lambda images: (seen.append(len(images)), detect(images))[1]
    steps = []
    summary = predict_to_file(predictor, categories, data, out, resume=True, step=steps.append)
    # 8 images of the first batch are done; the second one, of which 3 are done, runs as a whole.
    assert seen == [8, 4]
    assert (summary.resumed, summary.images, sum(steps), summary.interrupted) == (11, 20, 20, False)
    assert out.read_bytes() == whole.read_bytes()
    assert not (tmp_path / "preds.json.partial").exists()
