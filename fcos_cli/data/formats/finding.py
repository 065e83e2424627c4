"""Finds the image that an annotation names, below one folder: names often are paths of the machine that wrote them."""

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path, PurePosixPath
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np

from fcos_cli.data.findings import Findings, Kind, Weight
from fcos_cli.data.images import image_sizes
from fcos_cli.data.records import DetectionData
from fcos_cli.data.sources.files import images_below
from fcos_cli.errors import DataError

ELSEWHERE = Kind("images that are not where they are said to be, and are taken from elsewhere", Weight.NOTE)
NOT_FOUND = Kind("images that were not found; looked in", Weight.NOTE)
_UPLOADED = re.compile(r"^[0-9a-f]{8}-")


class ImageFinder:
    """The images below a folder, found by the names that annotations give.

    Tried in this order: the name as it is written, relative to each of the folders that are near; the image below the
    folder whose path ends like the name, however much of the name's start belongs to another machine
    (`/content/data/images/a.jpg`, `C:\\photos\\a.jpg`, `data/obj/a.jpg`, an URL); the same in another case or Unicode
    form; without the eight digits that Label Studio puts before the names of uploads.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, name: str, near: Iterable[Path] = ()) -> str:
        """The image's path relative to the folder; the name as it is written where there is no such image."""
        written = _plain(name)
        for place in (*near, self.folder):
            path = place / written
            if written and _is_file(path):
                return Path(os.path.relpath(path, self.folder)).as_posix()
        found = self._ending_like(written)
        base = PurePosixPath(written).name
        if found is None and _UPLOADED.match(base):
            found = self._ending_like(base[9:])
        return found if found is not None else written

    def by_stem(self, stem: str, near: Iterable[Path] = ()) -> str | None:
        """An image of this name with any extension, the nearest first; relative to the folder."""
        alike = self._stems.get(_key(stem), [])
        for place in near:
            inside = Path(os.path.relpath(place, self.folder))
            for path in alike:
                if Path(path).parent == inside:
                    return path
        return alike[0] if len(alike) == 1 else None

    def _ending_like(self, written: str) -> str | None:
        """The image that shares the longest end with the written path; None where two share as much."""
        parts = [_key(part) for part in PurePosixPath(written).parts]
        if not parts:
            return None
        shared = [(_common_end(parts, path), path) for path in self._names.get(parts[-1], [])]
        longest = max((count for count, _ in shared), default=0)
        best = [path for count, path in shared if count == longest]
        return best[0] if len(best) == 1 else None

    @cached_property
    def _paths(self) -> list[str]:
        return [Path(os.path.relpath(path, self.folder)).as_posix() for path in images_below(self.folder)]

    @cached_property
    def _names(self) -> dict[str, list[str]]:
        return _grouped((_key(PurePosixPath(path).name), path) for path in self._paths)

    @cached_property
    def _stems(self) -> dict[str, list[str]]:
        return _grouped((_key(PurePosixPath(path).stem), path) for path in self._paths)


def located(
    root: Path, names: Sequence[str], below: Path, findings: Findings, *, any_ending: bool = False
) -> tuple[Path, list[str]]:
    """Where images are that are not where an annotation file says: searched for by `ImageFinder` below a folder.

    Args:
        root: the folder that the names are relative to.
        names: N names as they are written.
        below: the folder to search.
        findings: gets what was found elsewhere, and the places that were searched for what was not.
        any_ending: whether an image of the same name with another ending is meant as well.

    Returns:
        Folder and N names: `root` and the names themselves where all images are there, or none is anywhere.
    """
    absent = _absent(root, names)
    if not absent:
        return root, list(names)
    finder = ImageFinder(below)
    moved = {}
    for index in absent:
        name: str | None = finder.find(names[index])
        if any_ending and not _is_file(below / str(name)):
            name = finder.by_stem(PurePosixPath(names[index]).stem)
        if name is not None and _is_file(below / name):
            moved[index] = name
    findings.add(ELSEWHERE, *(f"{names[index]} -> {name}" for index, name in moved.items()))
    lost = len(absent) - len(moved)
    places = [f"{below} and everything below"] if root == below else [str(root), f"everything below {below}"]
    findings.add(NOT_FOUND, *places, count=lost)
    if not moved:
        return root, list(names)
    if len(moved) == len(names):
        common = os.path.commonpath([os.path.dirname(name) for name in moved.values()])
        return below / common, [
            Path(os.path.relpath(moved[index], common or ".")).as_posix() for index in sorted(moved)
        ]
    own = [moved.get(index) or Path(os.path.relpath(root / name, below)).as_posix() for index, name in enumerate(names)]
    return below, own


def found_in(data: DetectionData, folder: Path) -> DetectionData:
    """A data set whose images are taken from a folder that the user names (`--image-dir`), wherever they were before.

    Raises:
        DataError: the folder is none, or holds none of the images.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no folder of images", "correct --image-dir (data.image_dir)")
    finder = ImageFinder(folder)
    names = [finder.find(name) for name in data.file_names]
    lost = [name for name in names if not _is_file(folder / name)]
    if names and len(lost) == len(names):
        raise DataError(
            f"none of the {len(names)} images of {data.name} is in {folder} or below: looked for {lost[0]}",
            "correct --image-dir (data.image_dir)",
        )
    sizes = data.sizes.copy()
    unknown = np.flatnonzero((sizes <= 0).any(axis=1))
    if unknown.size:
        sizes[unknown] = image_sizes([folder / names[index] for index in unknown])
    found = Findings(finding for finding in data.findings if finding.kind not in (ELSEWHERE, NOT_FOUND))
    found.add(NOT_FOUND, f"{folder} and everything below", count=len(lost))
    return replace(data, root=folder, file_names=names, sizes=sizes, findings=tuple(found))


def _absent(root: Path, names: Sequence[str]) -> list[int]:
    """Positions of the names that are no files. Folders are listed: much quicker than to ask for every file."""
    listed: dict[str, set[str]] = {}
    absent = []
    for index, name in enumerate(names):
        folder, base = os.path.split(name)
        if folder not in listed:
            try:
                listed[folder] = set(os.listdir(root / folder))
            except (OSError, ValueError):
                listed[folder] = set()
        if base not in listed[folder]:
            absent.append(index)
    return absent


def _plain(name: str) -> str:
    """A path with slashes: of an URL its path, of Label Studio's local files what `d=` names."""
    if re.match(r"[a-zA-Z][a-zA-Z0-9+.-]+://", name) or name.startswith("/data/"):
        parts = urlsplit(name)
        local = parse_qs(parts.query).get("d")
        name = local[0] if local else unquote(parts.path)
    return name.strip().replace("\\", "/")


def _key(name: str) -> str:
    return unicodedata.normalize("NFC", name).casefold()


def _common_end(parts: list[str], path: str) -> int:
    count = 0
    for one, other in zip(reversed(parts), reversed(PurePosixPath(path).parts), strict=False):
        if one != _key(other):
            break
        count += 1
    return count


def _grouped(pairs: Iterable[tuple[str, str]]) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    # A name that is too long, or holds what no name may.
    except (OSError, ValueError):
        return False
