"""Images on their way into a new data set: their names there, and copies of or links to them."""

import os
import shutil
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import Literal

from PIL import Image

from fcos_cli.data.convert.target import Target
from fcos_cli.data.image_names import is_image_name
from fcos_cli.data.images import open_image, threads
from fcos_cli.data.records import DetectionData
from fcos_cli.errors import UsageError

Placing = Literal["copy", "link", "reference"]


class Names:
    """Gives each image a name of its own in the new data set; without its extension too, where label files go by that.

    An image that several splits share keeps one name where all splits share one folder.
    """

    def __init__(self, target: Target) -> None:
        self.target = target
        self._taken: set[str] = set()
        self._of_path: dict[Path, str] = {}

    def of(self, data: DetectionData, split: str) -> list[str]:
        """Names of a split's images, relative to the folder of the new data set."""
        return [self._name(data, index, split) for index in range(len(data))]

    def _name(self, data: DetectionData, index: int, split: str) -> str:
        path = data.path(index)
        if self.target.one_folder and data.source.on_disk and path in self._of_path:
            return self._of_path[path]
        name = PurePosixPath(data.file_names[index].replace("\\", "/"))
        if name.is_absolute() or ".." in name.parts:
            name = PurePosixPath(name.name)
        suffix = _suffix(data, index, name)
        stem = str(name.with_suffix("")) if is_image_name(name.name) else str(name)
        stem = self.target.stem(stem)
        folder = self.target.image_folder(split)
        place = f"{folder}/{stem}"
        count = 1
        while self._key(place, suffix) in self._taken:
            count += 1
            place = f"{folder}/{stem}_{count}"
        self._taken.add(self._key(place, suffix))
        self._of_path[path] = place + suffix
        return place + suffix

    def _key(self, place: str, suffix: str) -> str:
        return (place + suffix if self.target.nested else place).casefold()


def place_images(
    data: DetectionData, names: Sequence[str], folder: Path, placing: Placing, advance: Callable[[int], None]
) -> None:
    """Copy or link the images of a data set to `folder`; those that are not files are drawn into PNG files.

    Raises:
        DataError: an image is missing or broken.
        UsageError: images that are no files are to be linked.
        OSError: the disk is full, or an image cannot be read.
    """
    if placing != "copy" and not data.source.on_disk:
        raise UsageError(f"{data.name} has no image files to {placing}", "leave --images out: they are drawn anew")

    def place(index: int) -> None:
        target = folder / names[index]
        target.parent.mkdir(parents=True, exist_ok=True)
        if target.exists():
            return
        if not data.source.on_disk:
            Image.fromarray(data.read(index)).save(target)
        elif placing == "copy":
            shutil.copyfile(data.path(index), target)
        else:
            os.symlink(os.path.abspath(data.path(index)), target)

    with ThreadPoolExecutor(max_workers=threads()) as pool:
        for _ in pool.map(place, range(len(data))):
            advance(1)


def _suffix(data: DetectionData, index: int, name: PurePosixPath) -> str:
    """The extension, of a file without one that of its format."""
    if not data.source.on_disk:
        return ".png"
    if is_image_name(name.name):
        return name.suffix
    kind = open_image(data.path(index), lambda image: image.format or "png").lower()
    return ".jpg" if kind == "jpeg" else f".{kind}"
