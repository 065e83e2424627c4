"""What lies in a data set's folder and no split takes: annotation-like files, images, formats that are not decoded."""

import os
import re
from collections.abc import Container, Iterable, Mapping
from pathlib import Path

from fcos_cli.data.findings import Finding, Findings, Kind, Weight
from fcos_cli.data.formats.splits import CLASS_FILES, Split
from fcos_cli.data.image_names import is_image_name
from fcos_cli.data.records import DetectionData

LOST = Kind("splits that the data set names and that are not there")
UNREAD = Kind("files that look like annotations and were not read")
NOTHING_READ = Kind("files that look like annotations and were not read, and there are no boxes", Weight.ERROR)
UNUSED = Kind("images that no split lists and nothing uses")
NOT_DECODED = Kind("images of a format that is not decoded (convert them to JPEG or PNG)")
HIDDEN = Kind("hidden files (._*) that macOS left and nothing reads", Weight.NOTE)
PASSED_OVER = Kind("files of COCO's other tasks, which are passed over", Weight.NOTE)

ANNOTATION_EXTENSIONS = frozenset({".txt", ".xml", ".json", ".csv", ".tsv", ".jsonl", ".ndjson", ".odgt", ".tfrecord"})
_NOT_DECODED = frozenset(
    {".heic", ".heif", ".hif", ".jxl", ".jxr", ".svg", ".psd", ".xcf", ".raw", ".dng", ".cr2", ".cr3", ".nef", ".arw"}
    | {".orf", ".rw2", ".exr", ".hdr", ".dcm", ".nii"}
)
_FOR_PEOPLE = re.compile(r"(readme|licen[cs]e|copying|notice|change|requirements|authors|citation|attribution)", re.I)
_OTHER_TASKS = re.compile(r"(captions|panoptic|stuff|person_keypoints)_.*\.json")
_NUMBER = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?")
_LINES, _HEAD = 20, 1 << 14


def survey(
    folder: Path, splits: Mapping[str, Split], opened: Mapping[str, DetectionData], *, annotated: bool = True
) -> tuple[Finding, ...]:
    """What there is to say of a data set as a whole.

    Args:
        folder: the folder that it was opened from; of a file, nothing is said of what lies around it.
        splits: all of its splits.
        opened: those that were read.
        annotated: whether it is of a format with annotations; False for bare images.
    """
    found = Findings(dict.fromkeys(finding for split in splits.values() for finding in split.shared))
    lost = [split.lost for split in splits.values() if split.lost]
    found.add(LOST, *lost)
    listings = [split.files for split in splits.values() if not split.lost]
    if not folder.is_dir():
        return tuple(found)
    taken = {_key(file) for files in listings if files is not None for file in files()}
    used = {_key(data.path(index)) for data in opened.values() if data.source.on_disk for index in range(len(data))}
    whole = len(opened) == len(listings) and annotated
    kinds: dict[Kind, list[str]] = {}
    boxes = any(len(data.boxes) for data in opened.values())
    unread = UNREAD if boxes else NOTHING_READ
    stems: set[str] = set()
    texts: list[tuple[str, str]] = []
    for place, names in _walk(folder):
        for name in names:
            file = os.path.join(place, name)
            kind = _kind_of(name)
            if kind is UNUSED:
                stems.add(os.path.splitext(file)[0])
                kind = UNUSED if whole and _key(file) not in used else None
            elif kind is UNREAD:
                kind = None
                if _key(file) not in taken and None not in listings:
                    texts.append((file, name))
            if kind is not None:
                kinds.setdefault(kind, []).append(os.path.relpath(file, folder))
    images = {os.path.basename(stem) for stem in stems}
    for file, name in texts:
        beside = os.path.splitext(file)[0] in stems
        if beside or not name.lower().endswith(".txt") or looks_annotated(Path(file), images):
            kinds.setdefault(unread, []).append(os.path.relpath(file, folder))
    for kind, files in kinds.items():
        found.add(kind, *files)
    return tuple(found)


def is_text_for_people(file: Path) -> bool:
    """Whether a file's name says that it is a README, a licence or the like."""
    return _FOR_PEOPLE.match(file.name) is not None


def looks_annotated(file: Path, images: Container[str] = ()) -> bool:
    """Whether a text file may be a label file, a list of images or of classes, by its name and first lines.

    `images`: names of the images around it without their endings.
    """
    if file.name in CLASS_FILES:
        return True
    try:
        with file.open("rb") as stream:
            raw = stream.read(_HEAD)
    except OSError:
        return False
    utf16 = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
    lines = raw.decode("utf-16" if utf16 else "utf-8-sig", errors="replace").splitlines()[:_LINES]
    return any(_is_label(line) or _names_an_image(line.split()[0], images) for line in lines if line.strip())


def _names_an_image(word: str, images: Container[str]) -> bool:
    base = word.replace("\\", "/").rsplit("/", 1)[-1]
    return is_image_name(base) or base in images


def _is_label(line: str) -> bool:
    return sum(_NUMBER.fullmatch(word) is not None for word in re.split(r"[\s,;]+", line)) >= 4


def _kind_of(name: str) -> Kind | None:
    """UNREAD for what may be annotations, UNUSED for images, and so on, by the name alone."""
    extension = os.path.splitext(name)[1].lower()
    if name.startswith("._"):
        return HIDDEN
    if name.startswith("."):
        return None
    if is_image_name(name):
        return UNUSED
    if extension in _NOT_DECODED:
        return NOT_DECODED
    if _OTHER_TASKS.fullmatch(name):
        return PASSED_OVER
    return UNREAD if extension in ANNOTATION_EXTENSIONS and not _FOR_PEOPLE.match(name) else None


def _walk(folder: Path) -> Iterable[tuple[str, list[str]]]:
    """Folders and the files in them; hidden folders and those of macOS archives are passed over; links count once."""
    seen: set[str] = set()
    for place, inner, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith(".") and name != "__MACOSX")
        predictions = {f"{name.removesuffix('.images.json')}.json" for name in files if name.endswith(".images.json")}
        # What `fcos predict` writes is no annotation.
        yield place, sorted(name for name in files if name not in predictions and not name.endswith(".images.json"))


def _key(file: str | Path) -> str:
    return os.path.abspath(file)
