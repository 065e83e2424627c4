"""KITTI: one text file an image, 15 columns of words and numbers. Source: the read-me of its object development kit.

Columns 5 to 8 are left, top, right, bottom in pixels from 0. `DontCare` regions are of no class: they are left out.
"""

import re
from pathlib import Path

from fcos_cli.data.findings import Findings, Kind
from fcos_cli.data.formats.finding import ImageFinder
from fcos_cli.data.formats.format import Format
from fcos_cli.data.formats.named import NamedBox, NamedImage, class_names, named_data, named_split, title
from fcos_cli.data.formats.splits import ALL, Split, meaning, read_lines
from fcos_cli.data.records import DetectionData

NOT_A_LINE = Kind("lines that are not KITTI's: a class and 14 numbers", boxes=True)
DONT_CARE = Kind("DontCare regions", boxes=True)
_LABEL_FOLDERS = ("label_2", "labels", "label", "labels_kitti")
_IMAGE_FOLDERS = ("image_2", "images", "data", "image")
_LINE = re.compile(rb"[A-Za-z_][^\n]*?(\s+-?[\d.]+(e[-+]?\d+)?){14,15}\s*(\r?\n|$)")
_LOOKED_AT = 20


def kitti_splits(folder: Path) -> dict[str, Split]:
    """The splits of a folder: `training/label_2`, `train/labels`, ..., or one that is not divided."""
    inner = [folder, *(path for path in sorted(folder.iterdir()) if path.is_dir() and path.name[:1] != ".")]
    found = {}
    for place in inner:
        for name in _LABEL_FOLDERS:
            if (place / name).is_dir() and _has_files(place / name):
                found[ALL if place == folder else place.name] = (place, place / name)
                break
    if ALL in found:
        found = {ALL: found[ALL]}
    elif len(found) == 1 and meaning(next(iter(found))) is None:
        found = {ALL: next(iter(found.values()))}
    return {split: _split(folder, split, found) for split in found}


def read_kitti(file: Path, image: str, findings: Findings) -> NamedImage:
    """The objects of one label file. Lines that are not KITTI's, and DontCare regions, are found and left out."""
    boxes = []
    for number, line in enumerate(read_lines(file), start=1):
        words = line.split()
        # A class name may hold blanks, a prediction's line ends in its score.
        last = 15 if len(words) == 15 else len(words)
        try:
            values = [float(word) for word in words[last - 14 : last]]
        except ValueError:
            values = []
        if len(values) < 14:
            findings.add(NOT_A_LINE, f"{file.name}:{number}: {line[:60]}")
            continue
        name = " ".join(words[: last - 14])
        if name == "DontCare":
            findings.add(DONT_CARE, f"{file.name}:{number}")
        else:
            boxes.append(NamedBox(name, (values[3], values[4], values[5], values[6])))
    return NamedImage(image, boxes)


def _split(folder: Path, split: str, found: dict[str, tuple[Path, Path]]) -> Split:
    def files(name: str) -> list[Path]:
        return sorted(file for file in found[name][1].glob("*.txt") if not file.name.startswith("."))

    def read() -> DetectionData:
        finder = ImageFinder(folder)
        parsed: dict[str, list[NamedImage]] = {}
        findings = Findings()
        for name, (place, labels) in found.items():
            near = [*(place / inner for inner in _IMAGE_FOLDERS), labels, place]
            named = ((file, finder.by_stem(file.stem, near) or f"{file.stem}.png") for file in files(name))
            # What is odd in other splits is said by these.
            own = findings if name == split else Findings()
            parsed[name] = [read_kitti(file, image, own) for file, image in named]
        classes = class_names(image for images in parsed.values() for image in images)
        return named_data(title(folder, split), folder, parsed[split], classes, findings=findings)

    return named_split(read, lambda: len(files(split)), split, lambda: files(split))


def _has_files(folder: Path) -> bool:
    for _, file in zip(range(_LOOKED_AT), sorted(folder.glob("*.txt")), strict=False):
        with file.open("rb") as stream:
            head = stream.read(4096)
        if head.strip():
            return _LINE.match(head) is not None
    return False


KITTI = Format("KITTI", "training/label_2/*.txt", kitti_splits)
