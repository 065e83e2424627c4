"""What is in a data set and what is wrong with it, before a training finds out."""

import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np

from fcos_cli.data.findings import Finding, Findings, Kind, Weight
from fcos_cli.data.findings import lines as lines_of
from fcos_cli.data.formats.finding import NOT_FOUND
from fcos_cli.data.formats.splits import meaning
from fcos_cli.data.images import threads
from fcos_cli.data.records import DetectionData
from fcos_cli.data.remarks import listening
from fcos_cli.errors import DataError

OTHER_CLASSES = Kind("splits that list different classes, which are matched by name")
OTHER_CLASSES_TRAINED = Kind(
    "splits that list different classes, which fcos train refuses: write the same list into both", Weight.ERROR
)
SHARED = Kind("images that are in two splits: what is measured on them says little")
BORDER_TOLERANCE = 1.0
"""Pixels that a box may pass the image's border by: annotation tools round."""


class ClassCount(NamedTuple):
    """One class: its id and name, its boxes (crowd not counted) and the images that have one."""

    id: int
    name: str
    boxes: int
    images: int


class BrokenImage(NamedTuple):
    """An image that cannot be read, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class DataReport:
    """What `fcos data check` says of one split.

    Attributes:
        images, boxes: how many; `boxes` includes crowd.
        crowd: boxes that are crowd or ignore regions.
        empty_images: images without any box.
        unsized_images: images whose size neither the annotations nor the file tell.
        classes: counts per class, in label order.
        findings: what was left out on reading, or read otherwise than written.
        outside: boxes that pass the border of their image by more than a pixel.
        far_outside: those of them that lie outside entirely.
        below_1px, below_8px: boxes whose shorter side is below 1 and 8 pixels.
        duplicates: boxes that repeat another one of the same class and image exactly.
        missing: image files that do not exist.
        decoded: whether the images were decoded.
        broken: images that exist and cannot be read, or whose size is not the annotated one; known only after decoding.
        annotated: False for bare images.
    """

    name: str
    root: str
    annotated: bool
    images: int
    boxes: int
    crowd: int
    empty_images: int
    unsized_images: int
    classes: list[ClassCount]
    findings: tuple[Finding, ...]
    outside: int
    far_outside: int
    below_1px: int
    below_8px: int
    duplicates: int
    missing: list[str]
    decoded: bool
    broken: list[BrokenImage]

    @property
    def _searched(self) -> str:
        """The places where images were looked for."""
        places = next((finding.examples for finding in self.findings if finding.kind == NOT_FOUND), (self.root,))
        return " or ".join(places)

    @property
    def errors(self) -> list[str]:
        """What keeps the data from being used, one line each."""
        lines = []
        hint = ": name their folder with --image-dir DIR"
        if not self.images:
            lines.append("there are no images")
        if self.images and len(self.missing) == self.images:
            lines.append(f"none of the images is in {self._searched} (looked for {_short(self.missing[0])}){hint}")
        elif self.missing:
            lines.append(
                f"{_count(len(self.missing), 'image file')} missing in {self._searched}: {_some(self.missing)}"
            )
        lines += [f"cannot be read: {image.reason}" for image in self.broken]
        if self.annotated and self.images and not self.boxes:
            lines.append("there are no boxes: nothing can be learnt from these annotations")
        if self.boxes and self.crowd == self.boxes:
            lines.append("all boxes are crowd or difficult, which are ignored: nothing can be learnt from them")
        return lines + lines_of(self.findings, Weight.ERROR)

    @property
    def dropped(self) -> dict[str, int]:
        """Boxes that were left out on reading, by reason."""
        return {finding.kind.text: finding.count for finding in self.findings if finding.kind.boxes}

    @property
    def warnings(self) -> list[str]:
        """What is odd and worth a look, one line each."""
        lines = lines_of(self.findings, Weight.WARNING)
        if self.far_outside:
            lines.append(f"{_count(self.far_outside, 'box', 'boxes')} outside the image entirely")
        if self.outside - self.far_outside:
            lines.append(f"{_count(self.outside - self.far_outside, 'box', 'boxes')} partly outside the image")
        if self.below_1px:
            lines.append(f"{_count(self.below_1px, 'box', 'boxes')} less than a pixel wide or high")
        if self.duplicates:
            lines.append(f"{_count(self.duplicates, 'box', 'boxes')} repeated exactly")
        if self.unsized_images and self.annotated:
            lines.append(f"{_count(self.unsized_images, 'image')} of unknown size")
        unused = [item.name for item in self.classes if not item.boxes]
        if unused and self.boxes:
            lines.append(f"{_count(len(unused), 'class', 'classes')} without a box: {_some(unused)}")
        alike = Counter(item.name.strip().casefold() for item in self.classes)
        twice = [item.name for item in self.classes if alike[item.name.strip().casefold()] > 1]
        if twice:
            lines.append(f"class names that differ only in case or not at all: {_some(twice)}")
        return lines

    def to_json(self) -> dict[str, Any]:
        """The report as plain lists and dictionaries."""
        classes = [item._asdict() for item in self.classes]
        broken = [item._asdict() for item in self.broken]
        findings = [item.to_json() for item in self.findings]
        told = {"errors": self.errors, "warnings": self.warnings, "findings": findings, "dropped": self.dropped}
        return {**asdict(replace(self, findings=())), "classes": classes, "broken": broken, **told}


def check_data(
    data: DetectionData, *, decode: bool = False, advance: Callable[[int], None] | None = None
) -> DataReport:
    """Look through one split.

    Args:
        data: the split.
        decode: decode every image too (threads over the cores).
        advance: called with 1 for each decoded image.
    """
    names = data.file_names if data.source.on_disk else []
    missing = [name for name in names if not os.path.isfile(data.root / name)]
    image_index = np.repeat(np.arange(len(data)), np.diff(data.offsets))
    sides = data.boxes[:, 2:] - data.boxes[:, :2]
    sizes = data.sizes[image_index].astype(np.float64)
    sized = (sizes > 0).all(axis=1)
    beyond = np.maximum(-data.boxes[:, :2], data.boxes[:, 2:] - sizes).max(axis=1, initial=-np.inf)
    apart = (data.boxes[:, 2:] <= 0).any(axis=1) | (data.boxes[:, :2] >= sizes).any(axis=1)
    shorter = sides.min(axis=1, initial=np.inf)
    keys = np.column_stack([image_index, data.labels, data.boxes])
    broken, odd = _decoded(data, set(missing), advance) if decode else ([], Findings())
    return DataReport(
        name=data.name,
        root=str(data.root),
        annotated=data.annotated,
        images=len(data),
        boxes=len(data.boxes),
        crowd=int(data.crowd.sum()),
        empty_images=int((np.diff(data.offsets) == 0).sum()),
        unsized_images=int((data.sizes <= 0).any(axis=1).sum()),
        classes=_classes(data, image_index),
        findings=(*data.findings, *odd),
        outside=int((sized & (apart | (beyond > BORDER_TOLERANCE))).sum()),
        far_outside=int((sized & apart).sum()),
        below_1px=int((shorter < 1).sum()),
        below_8px=int((shorter < 8).sum()),
        duplicates=len(keys) - len(np.unique(keys, axis=0)),
        missing=missing,
        decoded=decode,
        broken=broken,
    )


def check_together(splits: Mapping[str, DetectionData]) -> tuple[Finding, ...]:
    """What is wrong between the splits of one data set: images shared by train, val and test; classes that differ."""
    found = Findings()
    for (first, a), (second, b) in combinations(splits.items(), 2):
        if (
            a.annotated
            and b.annotated
            and (a.categories.ids, a.categories.names) != (b.categories.ids, b.categories.names)
        ):
            trained = {meaning(first), meaning(second)} == {"train", "val"}
            found.add(OTHER_CLASSES_TRAINED if trained else OTHER_CLASSES, f"{first} and {second}")
        if meaning(first) and meaning(second) and meaning(first) != meaning(second):
            shared = {str(a.path(i)) for i in range(len(a))} & {str(b.path(i)) for i in range(len(b))}
            if shared:
                names = [os.path.basename(path) for path in sorted(shared)]
                found.add(SHARED, *(f"{first} and {second}: {name}" for name in names))
    return tuple(found)


def _classes(data: DetectionData, image_index: np.ndarray) -> list[ClassCount]:
    counted = ~data.crowd
    boxes = np.bincount(data.labels[counted], minlength=len(data.categories))
    pairs = np.unique(np.column_stack([image_index[counted], data.labels[counted]]), axis=0)
    images = np.bincount(pairs[:, 1].astype(np.int64), minlength=len(data.categories))
    return [
        ClassCount(category, name, int(boxes[label]), int(images[label]))
        for label, (category, name) in enumerate(zip(data.categories.ids, data.categories.names, strict=True))
    ]


def _decoded(
    data: DetectionData, missing: set[str], advance: Callable[[int], None] | None
) -> tuple[list[BrokenImage], Findings]:
    """The images that cannot be read, and what is odd about those that can."""

    def problem(index: int) -> tuple[str | None, Findings]:
        odd = Findings()
        try:
            with listening(odd):
                data.read(index)
        except DataError as error:
            return error.message, odd
        return None, odd

    present = [index for index in range(len(data)) if data.file_names[index] not in missing]
    broken, found = [], Findings()
    with ThreadPoolExecutor(max_workers=threads()) as pool:
        for index, (reason, odd) in zip(present, pool.map(problem, present), strict=True):
            found.extend(odd)
            if reason is not None:
                broken.append(BrokenImage(data.file_names[index], reason))
            if advance is not None:
                advance(1)
    return broken, found


def _count(count: int, one: str, many: str = "") -> str:
    return f"1 {one} is" if count == 1 else f"{count:,} {many or one + 's'} are"


def _short(name: str) -> str:
    """A name for a line of text; no file system has one of more than 255 bytes."""
    return (
        name
        if len(name.encode(errors="surrogateescape")) <= 255
        else f"{name[:60]}... ({len(name.encode(errors='surrogateescape'))} bytes)"
    )


def _some(names: Sequence[str], limit: int = 5) -> str:
    return ", ".join(map(_short, names[:limit])) + (f", ... ({len(names) - limit} more)" if len(names) > limit else "")
