"""Videos: frames in order under their numbers, memory that does not grow, and files that are no video."""

import builtins
import json
import struct

import numpy as np
import pytest

from fcos_cli.data.loading.eval_loader import eval_batches
from fcos_cli.data.sources.opening import open_sources
from fcos_cli.data.sources.video import is_video
from fcos_cli.errors import DataError, SetupError, UsageError

COUNT, SIZE = 23, (96, 64)


def colour(index):
    return 10 * index + 10


@pytest.fixture
def clip(tmp_path):
    return film(tmp_path / "clip.mp4")


def film(path, count=COUNT):
    av = pytest.importorskip("av")
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        for index in range(count):
            gray = np.full((SIZE[1], SIZE[0], 3), colour(index) % 256, dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(gray, format="rgb24")))
        container.mux(stream.encode())
    return path


def test_frames_are_images_under_their_numbers(clip):
    data = open_sources([str(clip)])
    assert data.source.expected(data) == COUNT
    batches = list(eval_batches(data, 32, 64, 4))
    assert [len(batch.images) for batch in batches] == [4] * 5 + [3]
    ids = [i for batch in batches for i in batch.image_ids]
    assert ids == list(range(COUNT))
    assert data.file_names[12] == "clip_000012.jpg"
    shades = [float(image.float().mean()) for batch in batches for image in batch.images]
    np.testing.assert_allclose(shades, [colour(i) for i in range(COUNT)], atol=6)
    assert {tuple(image.shape) for batch in batches for image in batch.images} == {(32, 48, 3)}
    assert batches[0].original_sizes.tolist() == [[96, 64]] * 4


def test_frames_that_are_done_are_left_out(clip):
    data = open_sources([str(clip)])
    done = np.zeros(len(data), dtype=bool)
    done[:20] = True
    assert [batch.image_ids for batch in eval_batches(data, 32, 64, 4, done=done)] == [[20, 21, 22]]


def test_few_frames_are_in_memory(clip):
    data = open_sources([str(clip)])
    data.source.keep_originals()
    most = 0
    for batch in eval_batches(data, 32, 64, 2):
        most = max(most, len(data.source._kept))
        for index in batch.indices:
            assert data.read(index).shape == (64, 96, 3)
            data.source.release(index)
    assert 2 <= most <= 2 * 3
    with pytest.raises(DataError, match="in their order"):
        data.read(0)


@pytest.mark.parametrize("clockwise", [90, 180, 270])
def test_a_phone_held_upright(tmp_path, clockwise):
    """Phones store the picture as the sensor sees it, and how it is turned as the track's matrix."""
    av = pytest.importorskip("av")
    path = tmp_path / "phone.mp4"
    stored = np.zeros((SIZE[1], SIZE[0], 3), dtype=np.uint8)
    stored[:, : SIZE[0] // 2] = 255  # white on the left
    with av.open(str(path), "w") as container:
        stream = container.add_stream("mpeg4", rate=5)
        stream.width, stream.height, stream.pix_fmt = *SIZE, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(stored, format="rgb24")))
        container.mux(stream.encode())
    content = bytearray(path.read_bytes())
    cos, sin = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[clockwise]
    matrix = struct.pack(">9i", cos << 16, sin << 16, 0, -sin << 16, cos << 16, 0, 0, 0, 1 << 30)
    place = content.index(b"tkhd") + 44  # ISO/IEC 14496-12, 8.3.2: what stands before the matrix
    content[place : place + 36] = matrix
    path.write_bytes(content)

    (batch,) = eval_batches(open_sources([str(path)]), 64, 96, 1)
    wanted = np.rot90(stored, -clockwise // 90)
    assert batch.original_sizes.tolist() == [[wanted.shape[1], wanted.shape[0]]]
    np.testing.assert_allclose(batch.images[0].numpy().astype(int), wanted.astype(int), atol=40)


def test_a_video_that_breaks_off_gives_what_it_has_and_says_so(tmp_path):
    path = film(tmp_path / "cut.mkv", 200)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    data = open_sources([str(path)])
    batches = list(eval_batches(data, 32, 64, 8))
    count = sum(len(batch.images) for batch in batches)
    assert 20 < count < 180
    ((name, reason),) = batches[-1].failed
    assert name == str(path)
    assert f"after {count} of 200 frames" in reason or f"frame {count}" in reason


def test_what_is_no_video(tmp_path):
    pytest.importorskip("av")
    (tmp_path / "a.mp4").write_bytes(b"no video at all" * 100)
    with pytest.raises(DataError, match=r"a\.mp4: cannot be opened as a video"):
        open_sources([str(tmp_path / "a.mp4")])
    (tmp_path / "empty.mov").touch()
    with pytest.raises(DataError, match=r"empty\.mov: cannot be opened as a video"):
        open_sources([str(tmp_path / "empty.mov")])
    with pytest.raises(DataError, match=r"none\.mp4: no such file"):
        open_sources([str(tmp_path / "none.mp4")])
    with pytest.raises(UsageError, match="one at a time"):
        open_sources([str(tmp_path / "a.mp4"), str(tmp_path)])
    with pytest.raises(UsageError, match="--split"):
        open_sources([str(tmp_path / "a.mp4")], "val")


def test_without_the_library_the_extra_is_named(tmp_path, monkeypatch):
    real = builtins.__import__

    def without_av(name, *arguments, **options):
        if name == "av":
            raise ImportError(name)
        return real(name, *arguments, **options)

    (tmp_path / "a.mp4").touch()
    monkeypatch.setattr(builtins, "__import__", without_av)
    with pytest.raises(SetupError, match="need PyAV") as caught:
        open_sources([str(tmp_path / "a.mp4")])
    assert caught.value.hint == "pip install av"


def test_names():
    assert is_video("clip.MP4")
    assert is_video("/dev/video0")
    assert not is_video("clip.gif")
    assert not is_video("video")


def test_predict_a_video(clip, tiny_detector, tmp_path):
    from fcos_cli.predict.job import predict_to_file
    from fcos_cli.runtime.predictor import Predictor
    from fcos_cli.weights.saved import load_detector

    data, detector = open_sources([str(clip)]), load_detector(tiny_detector)
    predictor = Predictor(detector.model, detector.recipe.test, precision="float32", batch_size=4)
    steps = []
    summary = predict_to_file(
        predictor,
        detector.categories,
        data,
        tmp_path / "preds.json",
        pictures=tmp_path / "drawn",
        crops=tmp_path / "crops",
        picture_threshold=0.4,
        step=steps.append,
    )
    assert (summary.images, sum(steps), summary.failed) == (COUNT, COUNT, [])
    assert {entry["image_id"] for entry in json.loads((tmp_path / "preds.json").read_text())} <= set(range(COUNT))
    listed = json.loads((tmp_path / "preds.images.json").read_text())
    assert [row["id"] for row in listed["images"]] == list(range(COUNT))
    assert (listed["info"]["video"], listed["info"]["frames_per_second"]) == ("clip.mp4", 5.0)
    assert len(list((tmp_path / "drawn").glob("clip_*.jpg"))) == COUNT
    assert data.source._kept == {}
