"""Images that a data set holds more than once: within a split, and in two splits that should share nothing."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np

from fcos_cli.data.doctor.near import fingerprints, near_copies
from fcos_cli.data.doctor.same import same_files
from fcos_cli.data.findings import Finding, Findings, Kind, Weight
from fcos_cli.data.formats.splits import meaning
from fcos_cli.data.records import DetectionData

Likeness = Literal["same", "near"]
REPEATED = Kind("images that a split holds more than once, by their content")
LEAKED = Kind("images that two splits hold, by their content: what is measured on them says little")
NEAR_REPEATED = Kind(
    "images that look like another one of their split (recompressed, resized, neighbouring frames)", Weight.NOTE
)
NEAR_LEAKED = Kind("images that look like one of another split: what is measured on them may say little")
_KINDS: dict[Likeness, tuple[Kind, Kind]] = {"same": (REPEATED, LEAKED), "near": (NEAR_REPEATED, NEAR_LEAKED)}


@dataclass(frozen=True)
class Copies:
    """Images that are copies of one another.

    Attributes:
        kind: same bytes, or near: they look the same.
        members: (split, position in it), two and more.
    """

    kind: Likeness
    members: tuple[tuple[str, int], ...]


def find_copies(
    splits: Mapping[str, DetectionData], *, near: bool = False, advance: Callable[[int], None] = lambda count: None
) -> list[Copies]:
    """Images of the same content, whatever they are called.

    Args:
        splits: by name.
        near: decode every image and compare what it shows, too.
        advance: called with 1 for each decoded image.

    Returns:
        Files of the same bytes; then, with `near`, groups of images that look the same and are not all of one such.
    """
    members = [(name, index) for name, data in splits.items() for index in range(len(data))]
    on_disk = [place for place, (name, _) in enumerate(members) if splits[name].source.on_disk]
    paths = [splits[name].path(index) for name, index in (members[place] for place in on_disk)]
    same = [[on_disk[i] for i in group] for group in same_files(paths)]
    found = [Copies("same", tuple(members[i] for i in group)) for group in same]
    if near and members:
        parts = [fingerprints(data, advance) for data in splits.values()]
        hashes, cells = (np.concatenate(columns) for columns in zip(*parts, strict=True))
        known = [set(group) for group in same]
        alike = [group for group in near_copies(hashes, cells) if not any(set(group) <= other for other in known)]
        found += [Copies("near", tuple(members[i] for i in group)) for group in alike]
    return found


def copies_found(copies: Sequence[Copies], splits: Mapping[str, DetectionData]) -> tuple[Finding, ...]:
    """What to say of them: within each split, and between train, val and test. A file shared by path is no copy."""
    found = Findings()
    for copy in copies:
        of_split: dict[str, list[str]] = {}
        for split, index in copy.members:
            path = str(splits[split].path(index))
            if path not in of_split.setdefault(split, []):
                of_split[split].append(path)
        for split, paths in of_split.items():
            found.add(_KINDS[copy.kind][0], *(f"{split}: {_equal(other, paths[0])}" for other in paths[1:]))
        for first, second in combinations(of_split, 2):
            if meaning(first) and meaning(second) and meaning(first) != meaning(second):
                own, others = of_split[first], of_split[second]
                pairs = [_equal(other, own[0]) for other in others if other not in own]
                found.add(_KINDS[copy.kind][1], *(f"{second} and {first}: {pair}" for pair in pairs))
    return tuple(found)


def _equal(one: str, other: str) -> str:
    return f"{os.path.basename(one)} = {os.path.basename(other)}"
