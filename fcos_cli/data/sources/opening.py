"""From the SOURCE arguments of `fcos predict` and the data of `fcos eval` to a data set. Imports no torch."""

import glob
import logging
import os
from collections.abc import Sequence
from pathlib import Path

from fcos_cli.data.datasets import IMAGES, find_splits, open_data
from fcos_cli.data.formats.known import format_of_file
from fcos_cli.data.formats.splits import ClassNamesMissingError
from fcos_cli.data.image_names import is_image_name
from fcos_cli.data.records import DetectionData
from fcos_cli.data.sources.files import image_files
from fcos_cli.data.sources.video import is_video, open_video
from fcos_cli.errors import DataError, UsageError

logger = logging.getLogger(__name__)


def open_sources(sources: Sequence[str], split: str | None = None, leave_out: Sequence[Path] = ()) -> DetectionData:
    """The images to predict on: image files, folders and patterns; one data set, with its own image ids; or one video.

    A single source that is a data set (a name, an annotation file, a folder in COCO's, VOC's or YOLO's layout) is
    opened as one; everything else is images.

    Args:
        sources: at least one.
        split: of the data set.
        leave_out: folders whose images are not searched for: those that pictures are written to.

    Raises:
        DataError: nothing is there, or the data set has several splits and none was named.
        UsageError: a split of something that is no data set; a video and something else; a list of images.
        SetupError: a video, and nothing to decode it with.
    """
    videos = [source for source in sources if is_video(source)]
    if videos and len(sources) > 1:
        raise UsageError(f"{videos[0]} is a video: one at a time, alone", "run fcos predict once for each video")
    if videos:
        if split is not None:
            raise UsageError(f"--split {split} needs a data set as SOURCE", "leave --split out for videos")
        return open_video(videos[0])
    lists = [source for source in sources if source == "-" or Path(source).suffix.lower() == ".txt"]
    if lists:
        raise UsageError(
            f"{lists[0]} is no image: lists of files are not read", "name the images, their folders or patterns"
        )
    if len(sources) == 1 and _is_data_set(sources[0]):
        try:
            return open_data(sources[0], split)
        except ClassNamesMissingError as error:
            if split is not None:
                raise
            logger.warning("%s; its images are taken without them", error.message)
    if split is not None:
        raise UsageError(f"--split {split} needs one data set as SOURCE", "leave --split out for images and folders")
    return image_files(sources, leave_out)


def check_overwriting(sources: Sequence[str], data: DetectionData, out: Path) -> None:
    """Make sure, before anything is written, that the result does not take the place of an image or annotation file.

    Raises:
        UsageError: `out` is one of the sources, or an image of `data`, which was opened from them.
    """
    given = {os.path.realpath(Path(source).expanduser()) for source in sources}
    if out.is_file() and os.path.realpath(out) in given | image_paths(data):
        raise UsageError(f"--out {out} would overwrite what is predicted on", "choose another file")


def image_paths(data: DetectionData) -> set[str]:
    """The image files of a data set, links resolved; none where its images are not files."""
    if not data.source.on_disk:
        return set()
    split = [os.path.split(name) for name in data.file_names]
    folders = {folder: os.path.realpath(data.root / folder) for folder in {folder for folder, _ in split}}
    return {os.path.join(folders[folder], name) for folder, name in split}


def open_annotated(
    spec: str,
    split: str | None,
    preferred: str = "val",
    *,
    image_dir: str | Path | None = None,
    stretch: bool = False,
) -> DetectionData:
    """The data set to evaluate on; without a split, the only one there is, else `preferred`.

    `image_dir` and `stretch` as `open_data` has them.

    Raises:
        DataError: nothing is there, no such split, no images, or no annotations.
    """
    if split is None:
        _, splits = find_splits(spec)
        split = preferred if len(splits) > 1 else None
    data = open_data(spec, split, image_dir=image_dir, stretch=stretch)
    if not len(data):
        raise DataError(f"{data.name} has no images", "fcos data check DATA shows what was found where")
    if not data.annotated:
        raise DataError(
            f"{data.name} has no annotations to evaluate against",
            "give --data a data set with annotations: fcos data list shows what is found",
        )
    return data


def _is_data_set(source: str) -> bool:
    path = Path(source).expanduser()
    if path.is_dir():
        if not any(path.iterdir()):
            return False  # what is wrong with it is that there are no images
        layout, _ = find_splits(source)
        return layout != IMAGES
    if path.exists():
        return format_of_file(path) is not None
    return not (glob.has_magic(source) or is_image_name(source))
