"""Pascal VOC data sets: one XML file an image. Source: the VOC 2012 development kit, section 3.

Boxes are taken as written: x0 = xmin, y0 = ymin, x1 = xmax, y1 = ymax. The original VOC counts pixels from 1 and
includes both ends, but the tools that write VOC files today (labelImg, CVAT, Roboflow, BCCD's) store plain corners,
some of them with 0 raised to 1; the difference is below one pixel, and training and evaluation see the same boxes.

Objects marked `difficult` are treated like COCO's crowd: no positives in training, neither hit nor miss in evaluation.
"""

import os
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fcos_cli.data.findings import Findings, Kind, Weight
from fcos_cli.data.formats.assemble import UNREADABLE, assemble
from fcos_cli.data.formats.finding import located
from fcos_cli.data.formats.format import Format
from fcos_cli.data.formats.splits import ALL, Split, class_file_beside, class_names_beside, read_lines
from fcos_cli.data.formats.voc_file import Annotation, is_voc, parse_voc
from fcos_cli.data.image_names import is_image_name, stable_ids
from fcos_cli.data.images import image_sizes
from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.errors import DataError

NO_CLASS = Kind("objects of a class that the list of classes lacks", boxes=True)
NO_FILE = Kind("images of a split's list without an annotation file, left out")
_SPLIT_LISTS = ("train", "val", "test", "trainval", "valid", "validation")
LISTED_TWICE = Kind("images that a split lists more than once, taken once", Weight.NOTE)


def voc_splits(folder: Path) -> dict[str, Split]:
    """The splits of a folder in VOC's layout, or none where it has another.

    Known layouts: `Annotations/` and `JPEGImages/` with the splits in `ImageSets/Main/<split>.txt` (lists for each
    class are passed over: their lines have two columns, and their names are no splits'); XML files beside the images,
    in the folder itself or in one folder a split.
    """
    for annotations in (folder / "Annotations", folder / "annotations"):
        if has_voc_files(annotations):
            return _listed_splits(folder, annotations)
    if has_voc_files(folder):
        return {ALL: _split(folder.name, folder, folder, [folder], None)}
    folders = [inner for inner in sorted(folder.iterdir()) if inner.is_dir() and has_voc_files(inner)]
    if not any(has_images(inner) for inner in folders):
        return {}
    return {inner.name: _split(f"{folder.name} {inner.name}", folder, inner, folders, None) for inner in folders}


def read_voc(
    files: Sequence[Path],
    image_folder: Path,
    *,
    all_files: Sequence[Path],
    classes: Sequence[str] | None = None,
    name: str = "",
    below: Path | None = None,
) -> DetectionData:
    """Pascal VOC files as a data set.

    Found, and left out: objects without a class or a box that can be used; images whose file is missing or broken.

    Args:
        files: the XML files of the images of this split.
        image_folder: where the images are. An image is found by the XML file's own name with any image extension, else
            by `<filename>`.
        all_files: the XML files of every split. Class names are the sorted names of all of them, ids from 1, so that
            labels do not depend on the split; image ids (`stable_ids` of the XML files' names) are unique among them.
        classes: the class names in their order, where a file gives them; then `all_files` are not read for classes.
        below: the folder of the data set, in which images are searched for that are not in `image_folder`.

    Raises:
        DataError: none of the files is there.
    """
    found = Findings()
    files = _present(files, name, found)
    everything = list(dict.fromkeys([*files, *all_files]))
    id_of = _image_ids(everything)
    own = set(files)
    parsed: dict[Path, Annotation] = {}
    for file in files if classes is not None else everything:
        try:
            # What is odd in the files of other splits is said by these.
            parsed[file] = parse_voc(file, found if file in own else Findings())
        except DataError as error:
            if file in own:
                found.add(UNREADABLE, error.message)
    files = [file for file in files if file in parsed]
    if classes is None:
        classes = sorted({item.name for annotation in parsed.values() for item in annotation.objects})
    label_of = {class_name: label for label, class_name in enumerate(classes)}
    written = _image_names(files, parsed, image_folder)
    root, file_names = located(image_folder, written, below or image_folder, found, any_ending=True)

    rows: list[tuple[float, float, float, float]] = []
    labels: list[int] = []
    crowd: list[bool] = []
    image_index: list[int] = []
    places: list[str] = []
    for index, file in enumerate(files):
        for item in parsed[file].objects:
            if item.name not in label_of:
                found.add(NO_CLASS, f"{item.where}: {item.name!r} is not among {', '.join(classes)}")
                continue
            places.append(item.where)
            rows.append(item.box)
            labels.append(label_of[item.name])
            crowd.append(item.difficult)
            image_index.append(index)
    sizes = np.array([parsed[file].size for file in files], dtype=np.int32).reshape(-1, 2)
    unknown = np.flatnonzero((sizes <= 0).any(axis=1))
    if unknown.size:
        sizes[unknown] = image_sizes([root / file_names[i] for i in unknown])
    return assemble(
        name=name or image_folder.name,
        categories=Categories(tuple(range(1, len(classes) + 1)), tuple(classes)),
        root=root,
        image_ids=np.array([id_of[file] for file in files], dtype=np.int64),
        file_names=file_names,
        sizes=sizes,
        image_index=np.array(image_index, dtype=np.int64),
        boxes=np.array(rows, dtype=np.float64).reshape(-1, 4),
        labels=np.array(labels, dtype=np.int64),
        crowd=np.array(crowd, dtype=bool),
        findings=found,
        where=lambda row: places[row],
    )


def _image_ids(files: Sequence[Path]) -> dict[Path, int]:
    above = os.path.commonpath([file.parent for file in files]) if files else ""
    names = [Path(os.path.relpath(file.with_suffix(""), above)).as_posix() for file in files]
    return dict(zip(files, stable_ids(names).tolist(), strict=True))


def _listed_splits(folder: Path, annotations: Path) -> dict[str, Split]:
    image_folder = next(
        (place for place in (folder / "JPEGImages", folder / "images", folder, annotations) if has_images(place)),
        folder / "JPEGImages",
    )
    lists = [file for file in sorted((folder / "ImageSets" / "Main").glob("*.txt")) if _is_split_list(file)]
    if not lists:
        return {ALL: _split(folder.name, folder, image_folder, [annotations], None)}
    return {
        file.stem: _split(f"{folder.name} {file.stem}", folder, image_folder, [annotations], file) for file in lists
    }


def _split(
    name: str, folder: Path, image_folder: Path, annotation_folders: Sequence[Path], listed: Path | None
) -> Split:
    """`listed`: the file that lists the images of the split; None: every XML file of its folder."""
    own = image_folder if image_folder in annotation_folders else annotation_folders[0]

    def files() -> list[Path]:
        if listed is None:
            return xml_files(own)
        stems = (_without_extension(_first_column(line)) for line in read_lines(listed))
        return [own / f"{stem}.xml" for stem in stems]

    def read() -> DetectionData:
        classes = class_names_beside(folder, *annotation_folders)
        everything = [file for place in annotation_folders for file in xml_files(place)]
        return read_voc(files(), image_folder, all_files=everything, classes=classes, name=name, below=folder)

    def taken() -> list[Path]:
        classes = class_file_beside(folder, *annotation_folders)
        lists = (folder / "ImageSets").rglob("*.txt") if listed is not None else ()
        return [*files(), *lists, *([classes] if classes else [])]

    return Split(open=read, count=lambda: len(files()), files=taken)


def _present(files: Sequence[Path], name: str, findings: Findings) -> list[Path]:
    """The files that are there, each once.

    Raises:
        DataError: none of them is.
    """
    once = list(dict.fromkeys(files))
    there = [file for file in once if os.path.isfile(file)]
    if once and not there:
        raise DataError(
            f"{name}: none of its {len(once)} annotation files is in {once[0].parent}: looked for {once[0].name}",
            "is the split's list that of another data set?",
        )
    findings.add(LISTED_TWICE, *(file.stem for file, count in Counter(files).items() if count > 1))
    findings.add(NO_FILE, *(file.name for file in once if file not in set(there)))
    return there


def _image_names(files: Sequence[Path], parsed: dict[Path, Annotation], folder: Path) -> list[str]:
    names = {path.name for path in folder.iterdir() if is_image_name(path.name)} if folder.is_dir() else set()
    by_stem: dict[str, list[str]] = {}
    for name in sorted(names):
        by_stem.setdefault(Path(name).stem, []).append(name)
    chosen = []
    for file in files:
        written = Path(parsed[file].file_name.replace("\\", "/")).name
        alike = by_stem.get(file.stem, [])
        if alike and written not in alike:
            chosen.append(alike[0])
        else:
            chosen.append(written if written in names or (written and not alike) else f"{file.stem}.jpg")
    return chosen


def _without_extension(name: str) -> str:
    return str(Path(name).with_suffix("")) if is_image_name(name) else name


def _is_split_list(file: Path) -> bool:
    """Whether a list is one of a split's images: one name a line, or two columns under a split's name (train.txt)."""
    lines = read_lines(file)
    columns = len(lines[0].split()) if lines else 0
    return columns == 1 or (columns == 2 and file.stem.lower() in _SPLIT_LISTS)


def _first_column(line: str) -> str:
    """The name in a line of two columns, `000012 1`; else the line."""
    words = line.split()
    return words[0] if len(words) == 2 and words[1] in ("-1", "0", "1") else line


def has_images(folder: Path) -> bool:
    """Whether a folder holds image files."""
    return folder.is_dir() and any(is_image_name(path.name) for path in folder.iterdir())


def has_voc_files(folder: Path) -> bool:
    """Whether a folder holds Pascal VOC files, by the first XML file that can be read."""
    return folder.is_dir() and next((is_voc(file) for file in xml_files(folder) if file.stat().st_size), False)


def xml_files(folder: Path) -> list[Path]:
    """The XML files of a folder, sorted; hidden ones are passed over."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() == ".xml" and path.name[0] != ".")


VOC = Format("Pascal VOC", "Annotations/*.xml", voc_splits)
