"""From images whose boxes carry class names, as annotation tools write them, to a `DetectionData`."""

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from fcos_cli.data.findings import Findings, Kind
from fcos_cli.data.formats.assemble import assemble
from fcos_cli.data.formats.splits import ALL, Split, meaning
from fcos_cli.data.image_names import stable_ids
from fcos_cli.data.images import image_sizes
from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.errors import DataError

Box = tuple[float, float, float, float]
BAD_SHAPE = Kind("shapes whose coordinates are no numbers", boxes=True)
NO_LABEL = Kind("shapes without a label", boxes=True)
LISTED_TWICE = Kind("images that are listed more than once, whose boxes are joined")
NO_SIZE = Kind("boxes of images whose size cannot be read", boxes=True)


class NamedBox(NamedTuple):
    """One object: its class, xyxy, and whether it is a crowd or ignore region."""

    name: str
    box: Box
    crowd: bool = False


class NamedImage(NamedTuple):
    """One image.

    Attributes:
        file_name: relative to the data set's root.
        boxes: its objects.
        size: width and height in pixels; zeros are read from the image's header.
        fractions: whether boxes are fractions of the image's width and height.
    """

    file_name: str
    boxes: Sequence[NamedBox]
    size: tuple[int, int] = (0, 0)
    fractions: bool = False


def class_names(images: Iterable[NamedImage], listed: Sequence[str] = ()) -> list[str]:
    """The classes that a file lists, in its order, then those that boxes have besides, sorted."""
    used = {item.name for image in images for item in image.boxes}
    return [*dict.fromkeys(listed), *sorted(used - set(listed))]


def named_data(
    name: str,
    root: Path,
    images: Sequence[NamedImage],
    classes: Sequence[str],
    *,
    findings: Findings | None = None,
) -> DetectionData:
    """These images as a data set; category ids count from 1 in the order of `classes`.

    Raises:
        DataError: a box has a class that `classes` lacks.
    """
    found = Findings(findings or ())
    images = _joined(images, found)
    label_of = {text: label for label, text in enumerate(classes)}
    counts = [len(image.boxes) for image in images]
    image_index = np.repeat(np.arange(len(images)), counts)
    items = [item for image in images for item in image.boxes]
    unknown = next((item.name for item in items if item.name not in label_of), None)
    if unknown is not None:
        raise DataError(f"{name}: class {unknown!r} is not in the list of classes: {', '.join(classes)}")
    file_names = [image.file_name for image in images]
    sizes = np.array([image.size for image in images], dtype=np.int64).reshape(-1, 2).astype(np.int32)
    unsized = np.flatnonzero((sizes <= 0).any(axis=1))
    if unsized.size:
        sizes[unsized] = image_sizes([root / file_names[i] for i in unsized])
    boxes = np.array([item.box for item in items], dtype=np.float64).reshape(-1, 4)
    relative = np.array([image.fractions for image in images], dtype=bool)[image_index]
    known = ~relative | (sizes[image_index] > 0).all(axis=1)
    boxes[relative] *= sizes[image_index[relative]][:, [0, 1, 0, 1]]
    found.add(NO_SIZE, *dict.fromkeys(file_names[i] for i in image_index[~known]), count=int((~known).sum()))
    return assemble(
        name=name,
        categories=Categories(tuple(range(1, len(classes) + 1)), tuple(classes)),
        root=root,
        image_ids=stable_ids(file_names),
        file_names=file_names,
        sizes=sizes,
        image_index=image_index[known],
        boxes=boxes[known],
        labels=np.array([label_of[item.name] for item in items], dtype=np.int64)[known],
        crowd=np.array([item.crowd for item in items], dtype=bool)[known],
        findings=found,
    )


def _joined(images: Sequence[NamedImage], found: Findings) -> list[NamedImage]:
    """Each image once; of one that is listed again the boxes are added."""
    by_name: dict[str, NamedImage] = {}
    for image in images:
        first = by_name.get(image.file_name)
        if first is None:
            by_name[image.file_name] = image
            continue
        found.add(LISTED_TWICE, image.file_name)
        size = first.size if all(first.size) else image.size
        by_name[image.file_name] = first._replace(boxes=[*first.boxes, *image.boxes], size=size)
    return list(by_name.values())


def folders_of_splits(folder: Path, holds: Callable[[Path], bool]) -> dict[str, list[Path]]:
    """Where annotations lie: the folder itself, or folders in it, which are splits where their names say so.

    Folders whose names mean no split (`batch_01`) are one data set together; where some names do mean one, each folder
    is a split under its own name.
    """
    if holds(folder):
        return {ALL: [folder]}
    inner = [path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[:1] != "." and holds(path)]
    if any(meaning(path.name) for path in inner):
        return {path.name: [path] for path in inner}
    return {ALL: inner} if inner else {}


def title(folder: Path, split: str) -> str:
    """What to call a split of a folder in logs and tables."""
    return folder.name if split == ALL else f"{folder.name} {split}"


def named_split(
    read: Callable[[], DetectionData],
    count: Callable[[], int | None],
    split: str,
    files: Callable[[], Iterable[Path]] | None = None,
) -> Split:
    """A split that opens under any name where it is the whole data set; `files` as `Split` has it."""
    return Split(open=read, count=count, any_name=split == ALL, files=files)
