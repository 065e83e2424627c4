"""The frames of a video file, or of a camera, as images: one after another, a bounded number in memory.

A frame's image id is its number, from 0; its name is what a tool that cuts a video into pictures would call it. Frames
are turned as the file says (telephones store portrait video lying). PyAV decodes; it comes with the extra `video`.
"""

import math
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fcos_cli.data.loading.ahead import drawn_ahead, groups_ahead
from fcos_cli.data.loading.processes import choose_workers
from fcos_cli.data.loading.tensors import Batch, prepared_batch
from fcos_cli.data.loading.transforms import Prepared, prepare
from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.errors import DataError, SetupError

# A camera has no end: a day at 60 frames a second.
ENDLESS = 24 * 3600 * 60
_NO_BOXES = np.zeros((0, 4))


class FrameNames(Sequence[str]):
    """clip_000000.jpg, clip_000001.jpg, ..."""

    def __init__(self, stem: str, length: int) -> None:
        self.stem, self.length = stem, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: Any) -> Any:
        """The name of a frame, or a list of names for a slice."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self.length))]
        if not -self.length <= index < self.length:
            raise IndexError(index)
        return f"{self.stem}_{index % self.length:06d}.jpg"


class Frames:
    """Reads a video from its start to its end; the `ImageReader` of its frames while they are kept.

    Attributes:
        expected: how many frames the file promises; a promise that some files break.
        about: what a result should say about the video.
        keep: whether frames stay readable in full size until `release`, for pictures.
    """

    def __init__(self, source: str, expected: int, about: dict[str, object]) -> None:
        self.source, self.expected, self.about = source, expected, about
        self.keep = False
        self._kept: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    def __call__(self, data: DetectionData, index: int) -> np.ndarray:
        """uint8 [H, W, 3] RGB of a frame that was decoded and not released yet."""
        with self._lock:
            frame = self._kept.get(index)
        if frame is None:
            raise DataError(f"{data.file_names[index]}: frames can be read only in their order")
        return frame

    def release(self, index: int) -> None:
        """Forget a frame."""
        with self._lock:
            self._kept.pop(index, None)

    def batches(
        self, data: DetectionData, short_side: int, long_side: int, batch_size: int, done: np.ndarray | None = None
    ) -> Iterator[Batch]:
        """As `eval_loader.eval_batches`, in the order of the frames. What is broken ends the video, and is named."""
        broken: list[tuple[str, str]] = []

        def resized(item: tuple[int, np.ndarray]) -> tuple[int, Prepared]:
            index, pixels = item
            if self.keep:
                with self._lock:
                    self._kept[index] = pixels
            return index, prepare(pixels, _NO_BOXES, short_side, long_side)

        frames = drawn_ahead(self._decode(data, done, broken), limit=batch_size)
        threads = choose_workers(-1)
        for samples in groups_ahead(_grouped(frames, batch_size), resized, threads=threads, ahead=1):
            yield prepared_batch(data, samples)
        if broken:
            yield prepared_batch(data, [], broken)

    def _decode(
        self, data: DetectionData, done: np.ndarray | None, broken: list[tuple[str, str]]
    ) -> Iterator[tuple[int, np.ndarray]]:
        av = _pyav()
        index = 0
        try:
            with _open(av, self.source) as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                for frame in container.decode(stream):
                    if index >= len(data):
                        broken.append(
                            (data.name, f"{self.source}: stopped after {index} frames, more than it promised")
                        )
                        return
                    if done is None or not done[index]:
                        # Counter-clockwise degrees; older versions of PyAV do not tell.
                        turns = round(getattr(frame, "rotation", 0) / 90) % 4
                        pixels = frame.to_ndarray(format="rgb24")
                        yield index, np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
                    index += 1
        except av.error.FFmpegError as error:
            reason = f"{self.source}: frame {index} and what follows cannot be decoded ({error.strerror or error})"
            broken.append((data.name, reason))
            return
        # Of a file whose length is an estimate, a few frames may be missing.
        if index < 0.9 * self.expected - 2:
            broken.append((data.name, f"{self.source}: it ends after {index} of {self.expected} frames: cut off?"))


def open_video(source: str) -> DetectionData:
    """A video file or camera (/dev/video0) as images without annotations.

    Raises:
        SetupError: PyAV is not installed.
        DataError: there is no such file, or no video in it.
    """
    camera = is_camera(source)
    if not camera and not Path(source).expanduser().is_file():
        raise DataError(f"{source}: no such file", "check the path of the video")
    av = _pyav()
    path = Path(source).expanduser()
    try:
        with _open(av, str(path)) as container:
            if not container.streams.video:
                raise DataError(f"{source}: no video in it", "give a file with a video stream")
            stream = container.streams.video[0]
            rate = float(stream.average_rate or 0)
            expected = stream.frames or round(_seconds(av, container, stream) * rate)
            size = (stream.codec_context.width, stream.codec_context.height)
    except av.error.FFmpegError as error:
        raise DataError(
            f"{source}: cannot be opened as a video ({error.strerror or error})", "is the file whole, and a video?"
        ) from None
    # The count in a file is a promise, or made from its length: leave room for more.
    room = ENDLESS if camera or not expected else math.ceil(1.1 * expected) + 1000
    about = {"video": path.name, "frames_per_second": round(rate, 3), "width": size[0], "height": size[1]}
    return DetectionData(
        name=source,
        categories=Categories((), ()),
        image_ids=np.arange(room, dtype=np.int64),
        file_names=FrameNames(path.stem, room),
        sizes=np.zeros((room, 2), dtype=np.int32),
        boxes=_NO_BOXES,
        labels=np.zeros(0, dtype=np.int32),
        crowd=np.zeros(0, dtype=bool),
        areas=np.zeros(0),
        box_ids=np.zeros(0, dtype=np.int64),
        offsets=np.zeros(room + 1, dtype=np.int64),
        root=path.parent,
        reader=Frames(str(path), expected, about),
        annotated=False,
    )


def is_camera(source: str) -> bool:
    """Whether this names a camera as Linux does."""
    return source.startswith("/dev/video")


def _grouped(frames: Iterator[tuple[int, np.ndarray]], size: int) -> Iterator[list[tuple[int, np.ndarray]]]:
    group: list[tuple[int, np.ndarray]] = []
    try:
        for frame in frames:
            group.append(frame)
            if len(group) == size:
                yield group
                group = []
        if group:
            yield group
    finally:
        # Ends the decoding thread where the user stops early.
        frames.close()  # type: ignore[attr-defined]


def _seconds(av: Any, container: Any, stream: Any) -> float:
    if stream.duration:
        return float(stream.duration * stream.time_base)
    return float(container.duration or 0) / av.time_base


def _open(av: Any, source: str) -> Any:
    return av.open(source, format="v4l2") if is_camera(source) else av.open(source)


def _pyav() -> Any:
    try:
        import av
    except ImportError:
        raise SetupError("videos and cameras need PyAV, which is not installed", "pip install av") from None
    return av
