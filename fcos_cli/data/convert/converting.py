"""From data sets in memory to a new folder in another format: whole, or not there."""

import os
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from fcos_cli.data.convert.known import TARGETS
from fcos_cli.data.convert.placing import Names, Placing, place_images
from fcos_cli.data.convert.target import Part, Target, Written
from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.errors import DataError, UsageError
from fcos_cli.files import atomic_folder, check_absent


def convert(
    splits: Mapping[str, DetectionData],
    out: Path,
    to: str,
    *,
    images: Placing = "copy",
    advance: Callable[[int], None] = lambda count: None,
) -> Written:
    """Write a data set in another format.

    Args:
        splits: by name.
        out: the folder to make; nothing is there unless all of it is.
        to: a name of `TARGETS`.
        images: copies, symbolic links, or annotations that name the images where they are (COCO only).
        advance: called with 1 for each image that is in its place.

    Raises:
        UsageError: `out` exists; images are to be referred to by a format that cannot.
        DataError: image files are missing, or the format cannot say something that must be said.
    """
    target = TARGETS[to]()
    check_absent(out)
    if images == "reference" and not target.can_refer:
        raise UsageError(f"--images reference: {to} files lie beside their images", "take --images link, or --to coco")
    _require_images(splits)
    apart, unions = _without_unions(splits) if not target.one_folder else (splits, [])
    parts, notes = _one_list(apart, target)
    written = Written(changed=[*unions, *notes])
    names = Names(target)
    with atomic_folder(out) as folder:
        pieces = []
        for split, data in parts.items():
            if images == "reference":
                placed = [os.path.abspath(data.path(index)) for index in range(len(data))]
            else:
                placed = names.of(data, split)
                (folder / target.image_folder(split)).mkdir(parents=True, exist_ok=True)
                place_images(data, placed, folder, images, advance)
            pieces.append(Part(split, data, placed))
        target.write(folder, pieces, written)
    _note_areas(splits, target, written)
    written.left_out = +written.left_out
    return written


def _require_images(splits: Mapping[str, DetectionData]) -> None:
    if not any(len(data) for data in splits.values()):
        raise DataError("there are no images", "")
    for split, data in splits.items():
        names = data.file_names if data.source.on_disk else []
        missing = [name for name in names if not os.path.isfile(data.root / name)]
        if missing:
            raise DataError(
                f"{split}: {len(missing):,} of {len(data):,} image files are missing in {data.root}: {missing[0]}",
                "fcos data check shows where images are looked for; its --fix OUT leaves out what is missing or broken",
            )


def _without_unions(splits: Mapping[str, DetectionData]) -> tuple[dict[str, DetectionData], list[str]]:
    """The splits but those that are others together (VOC's trainval): their images would be written twice."""
    paths = {name: frozenset(data.path(i) for i in range(len(data))) for name, data in splits.items()}
    kept = dict(splits)
    notes = []
    for name, own in paths.items():
        others = [other for other in kept if other != name and paths[other] < own]
        if len(others) > 1 and frozenset().union(*(paths[other] for other in others)) == own:
            del kept[name]
            notes.append(f"{name} is not written: it is {' and '.join(others)} together")
    return kept, notes


def _one_list(splits: Mapping[str, DetectionData], target: Target) -> tuple[dict[str, DetectionData], list[str]]:
    """The splits with one list of classes, joined by name, where the format has one for all; and what that changes."""
    if target.first_class is None:
        return dict(splits), []
    names = list(dict.fromkeys(name for data in splits.values() for name in data.categories.names))
    unwritable = next(
        (name for name in names if not name.strip() or name != name.strip() or not name.isprintable()), None
    )
    if unwritable is not None:
        raise DataError(f"{target.name} files cannot hold the class name {unwritable!r}", "rename the class")
    first = target.first_class
    categories = Categories(tuple(range(first, first + len(names))), tuple(names))
    joined = {}
    for split, data in splits.items():
        own = data.categories.names
        if len(set(own)) < len(own):
            twice = next(name for name in own if own.count(name) > 1)
            raise DataError(
                f"{data.name}: two classes are called {twice!r}, and {target.name} files know classes by name",
                "rename one of them, or take --to coco",
            )
        label = np.array([names.index(name) for name in own], dtype=np.int32)
        joined[split] = replace(data, categories=categories, labels=label[data.labels] if own else data.labels)
    notes = []
    if len({data.categories for data in splits.values()}) > 1:
        notes.append("the splits list different classes: they are joined by name")
    if any(data.categories.ids != categories.ids[: len(data.categories)] for data in splits.values()):
        notes.append(f"category ids are not kept: the classes are numbered from {first}")
    return joined, notes


def _note_areas(splits: Mapping[str, DetectionData], target: Target, written: Written) -> None:
    if target.first_class is None:
        return
    for data in splits.values():
        sides = data.boxes[:, 2:] - data.boxes[:, :2]
        if not np.allclose(data.areas, sides.prod(axis=1), rtol=0.01, atol=1):
            written.changed.append("areas of segments are not kept: that of the box stands for them")
            return
