"""The frames of a video file, or of a camera, as images: one after another, a bounded number in memory.

A frame's image id is its number, from 0; its name is what a tool that cuts a video into pictures would call it. Frames
are turned as the file says (telephones store portrait video lying). PyAV decodes; it comes with the extra `video`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fcos_cli.data.records import DetectionData
from fcos_cli.data.sources.source import Images, StreamedSource
from fcos_cli.errors import DataError, SetupError

# A camera has no end: a day at 60 frames a second.
ENDLESS = 24 * 3600 * 60
VIDEO_EXTENSIONS = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp"}
)


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


class VideoFrames(StreamedSource):
    """The frames of a video file or camera, from its start to its end.

    Args:
        location: the file or device.
        promised: how many frames the file says it has, which is not true of all files; 0 where it does not say.
        about: what a result should say about the video.
    """

    def __init__(self, location: str, promised: int, about: Mapping[str, object]) -> None:
        super().__init__()
        self.location, self.promised, self.about = location, promised, about

    def expected(self, data: Images) -> int:
        """As `ImageSource.expected`."""
        return self.promised

    def stream(
        self, data: Images, done: np.ndarray | None, failed: list[tuple[str, str]]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """As `StreamedSource.stream`."""
        av = _pyav()
        index = 0
        try:
            with _open(av, self.location) as container:
                stream = container.streams.video[0]
                stream.thread_type = "AUTO"
                for frame in container.decode(stream):
                    if index >= len(data):
                        failed.append(
                            (data.name, f"{self.location}: stopped after {index} frames, more than it promised")
                        )
                        return
                    if done is None or not done[index]:
                        # Counter-clockwise degrees; older versions of PyAV do not tell.
                        turns = round(getattr(frame, "rotation", 0) / 90) % 4
                        pixels = frame.to_ndarray(format="rgb24")
                        yield index, np.ascontiguousarray(np.rot90(pixels, turns)) if turns else pixels
                    index += 1
        except av.error.FFmpegError as error:
            reason = f"{self.location}: frame {index} and what follows cannot be decoded ({error.strerror or error})"
            failed.append((data.name, reason))
            return
        # Of a file whose length is an estimate, a few frames may be missing.
        if index < 0.9 * self.promised - 2:
            failed.append((data.name, f"{self.location}: it ends after {index} of {self.promised} frames: cut off?"))


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
    return DetectionData.unannotated(
        source,
        np.arange(room, dtype=np.int64),
        FrameNames(path.stem, room),
        np.zeros((room, 2), dtype=np.int32),
        path.parent,
        VideoFrames(str(path), expected, about),
    )


def is_video(source: str) -> bool:
    """Whether this names a video file, by its ending, or a camera (/dev/video0)."""
    return is_camera(source) or Path(source).suffix.lower() in VIDEO_EXTENSIONS


def is_camera(source: str) -> bool:
    """Whether this names a camera as Linux does."""
    return source.startswith("/dev/video")


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
