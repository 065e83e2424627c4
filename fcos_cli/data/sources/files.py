"""Image files as a source of pixels: those of a data set, and files, folders and patterns that were named."""

import glob
import os
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from fcos_cli.data.image_names import is_image_name, natural_key, stable_ids
from fcos_cli.data.images import as_array, load_rgb, open_image, stored_size, upright_size
from fcos_cli.data.records import DetectionData
from fcos_cli.data.sources.source import Images, ImageSource
from fcos_cli.errors import DataError


@dataclass(frozen=True)
class ImageFiles(ImageSource):
    """The source of data sets whose images are files under `data.root`.

    An image with an EXIF rotation whose annotated size is that of the stored pixels was annotated without the
    rotation, and is left as it is stored. An annotated size that is neither the upright nor the stored one is a
    DataError.

    Attributes:
        stretch: whether 16-bit gray goes from its smallest to its largest value, as `images.read_image` has it.
    """

    on_disk = True
    stretch: bool = False

    def read(self, data: Images, index: int) -> np.ndarray:
        """As `ImageSource.read`."""
        return open_image(
            data.path(index),
            lambda image: as_array(load_rgb(image, upright=_is_upright(data, index, image), stretch=self.stretch)),
        )

    def read_resized(
        self, data: Images, index: int, target: Callable[[int, int], tuple[int, int]], *, draft: bool = False
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """As `ImageSource.read_resized`, while the image still is Pillow's: two copies less.

        `draft` lets the JPEG decoder halve, quarter or take an eighth of both sides, where what it gives is still at
        least as large as what is asked for. Several times quicker for photographs of many megapixels, and never used
        for an image of less than twice the size asked for. The pixels differ a little from those of a whole decoding.
        """

        def resized(image: Image.Image) -> tuple[np.ndarray, tuple[int, int]]:
            upright = _is_upright(data, index, image)
            size = upright_size(image) if upright else stored_size(image)
            wanted = target(*size)
            if draft:
                # Only JPEG files know it; it takes the largest reduction that is no smaller than this in both sides.
                image.draft(None, wanted[::-1] if size != stored_size(image) else wanted)
            rgb = load_rgb(image, upright=upright, stretch=self.stretch)
            if rgb.size != wanted:
                rgb = rgb.resize(wanted, Image.Resampling.BILINEAR)
            return as_array(rgb), size

        return open_image(data.path(index), resized)


def image_files(sources: Sequence[str], leave_out: Sequence[str | Path] = ()) -> DetectionData:
    """Bare images as a data set without annotations.

    Folders are searched recursively for files with an image's extension; a file that is named itself is taken whatever
    its extension. A file that several sources name is taken once. Names are relative to the one folder, or to what all
    sources have in common, in natural order (2 before 10); ids are `stable_ids` of the names. Sizes are 0.

    Args:
        sources: files, folders and glob patterns (`**` reaches into folders).
        leave_out: folders in which nothing is searched for, unless a source lies in them itself.

    Raises:
        DataError: a source does not exist or holds no images.
    """
    chosen: dict[str, None] = {}
    hidden = [Path(os.path.abspath(folder)) for folder in leave_out]
    bases: list[str] = []
    for source in sources:
        base, files = _expand(source)
        bases.append(os.path.abspath(base))
        places = [place for place in hidden if not Path(bases[-1]).is_relative_to(place)]
        paths = (os.path.abspath(file) for file in files)
        chosen.update((path, None) for path in paths if not any(Path(path).is_relative_to(place) for place in places))
    if not chosen:
        raise DataError("no images were given", "name files, folders or patterns such as 'photos/*.jpg'")
    try:
        root = Path(os.path.commonpath(bases))
    except ValueError:
        raise DataError("the images lie on different drives", "give the sources one at a time") from None
    names = sorted((Path(os.path.relpath(file, root)).as_posix() for file in chosen), key=natural_key)
    name = sources[0] if len(sources) == 1 else f"{len(names)} images"
    sizes = np.zeros((len(names), 2), dtype=np.int32)
    return DetectionData.unannotated(name, stable_ids(names), names, sizes, root, ImageFiles())


def stretched(data: DetectionData) -> DetectionData:
    """The data set with its 16-bit gray images stretched (`data.stretch_16_bit`), where its images are files."""
    return replace(data, source=ImageFiles(stretch=True)) if isinstance(data.source, ImageFiles) else data


def images_below(folder: Path) -> Iterator[str]:
    """Image files of a folder and those below; hidden ones are left out, linked folders are followed once."""
    seen: set[str] = set()
    for place, inner, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (os.path.join(place, name) for name in sorted(files) if is_image_name(name))


def _is_upright(data: Images, index: int, image: Image.Image) -> bool:
    """Whether an image of a data set is to be turned as its EXIF says; not where it was annotated as it is stored."""
    annotated = (int(data.sizes[index, 0]), int(data.sizes[index, 1]))
    upright = upright_size(image)
    if annotated in ((0, 0), upright):
        return True
    if annotated == stored_size(image):
        return False
    raise DataError(
        f"{data.path(index)}: the file has {_by(upright)} pixels but its annotation says {_by(annotated)}",
        "the image was replaced or resized after it was annotated: restore it or correct the annotation",
    )


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]}x{size[1]}"


def _expand(source: str) -> tuple[Path, list[str]]:
    """The folder that names are relative to, and the files of one source."""
    path = Path(source).expanduser()
    if path.is_dir():
        files = list(images_below(path))
        if not files:
            raise DataError(
                f"{source}: no images in this folder", "images are known by extensions such as .jpg and .png"
            )
        return path, files
    if path.is_file():
        return path.parent, [str(path)]
    if not glob.has_magic(source):
        raise DataError(
            f"{source}: no such file or folder", "check the path; a pattern such as 'photos/*.jpg' works too"
        )
    files = [file for file in glob.glob(str(path), recursive=True) if is_image_name(file) and os.path.isfile(file)]
    if not files:
        raise DataError(
            f"{source}: no image matches this pattern", "put the pattern in quotes; ** reaches into folders"
        )
    fixed = []
    for part in path.parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed), files
