"""What a person points `fcos predict` and `fcos eval` at. Imports no torch."""

import glob
from collections.abc import Sequence
from pathlib import Path

from fcos_cli.data.datasets import find_splits, image_files, open_data
from fcos_cli.data.images import is_image_name
from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError, UsageError

VIDEO_EXTENSIONS = frozenset(
    {".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".mts", ".m2ts", ".wmv", ".flv", ".3gp"}
)


def open_sources(sources: Sequence[str], split: str | None = None) -> DetectionData:
    """The images to predict on: image files, folders and patterns; one data set, with its own image ids; or one video.

    A single source that is a data set (a name, an annotation file, a folder in COCO's, VOC's or YOLO's layout) is
    opened as one; everything else is images.

    Args:
        sources: at least one.
        split: of the data set.

    Raises:
        DataError: nothing is there, or the data set has several splits and none was named.
        UsageError: a split of something that is no data set; a video and something else.
        SetupError: a video, and nothing to decode it with.
    """
    videos = [source for source in sources if is_video(source)]
    if videos and len(sources) > 1:
        raise UsageError(f"{videos[0]} is a video: one at a time, alone", "run fcos predict once for each video")
    if videos:
        if split is not None:
            raise UsageError(f"--split {split} needs a data set as SOURCE", "leave --split out for videos")
        # Imports torch.
        from fcos_cli.inference.video import open_video

        return open_video(videos[0])
    if len(sources) == 1 and _is_data_set(sources[0]):
        return open_data(sources[0], split)
    if split is not None:
        raise UsageError(f"--split {split} needs one data set as SOURCE", "leave --split out for images and folders")
    return image_files(sources)


def open_annotated(spec: str, split: str | None, preferred: str = "val") -> DetectionData:
    """The data set to evaluate on; without a split, the only one there is, else `preferred`.

    Raises:
        DataError: nothing is there, no such split, or no annotations.
    """
    if split is None:
        _, splits = find_splits(spec)
        split = preferred if len(splits) > 1 else None
    data = open_data(spec, split)
    if not data.annotated:
        raise DataError(
            f"{data.name} has no annotations to evaluate against",
            "give --data a data set with annotations: fcos data list shows what is found",
        )
    return data


def is_video(source: str) -> bool:
    """Whether this names a video file, by its ending, or a camera (/dev/video0)."""
    return source.startswith("/dev/video") or Path(source).suffix.lower() in VIDEO_EXTENSIONS


def _is_data_set(source: str) -> bool:
    path = Path(source).expanduser()
    if path.is_dir():
        layout, _ = find_splits(source)
        return layout != "images"
    if path.exists():
        return path.suffix.lower() in (".json", ".yaml", ".yml")
    return not (glob.has_magic(source) or is_image_name(source))
