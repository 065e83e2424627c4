"""From what the user typed (a name, a folder, a file) to a data set."""

import difflib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path

from fcos_cli.data.findings import Finding
from fcos_cli.data.formats.finding import found_in
from fcos_cli.data.formats.known import FORMATS, format_of_file
from fcos_cli.data.formats.splits import ALL, Split, choose_split, meaning
from fcos_cli.data.image_names import is_image_name
from fcos_cli.data.records import DetectionData
from fcos_cli.data.sources.files import image_files, images_below, stretched
from fcos_cli.data.unread import survey
from fcos_cli.errors import DataError

BUILT_IN = "shapes"
IMAGES = "images"
"""The layout of bare images."""
_ORDER = ("train", "val", "test")


def open_data(
    spec: str, split: str | None = None, *, image_dir: str | Path | None = None, stretch: bool = False
) -> DetectionData:
    """The data set that `spec` names.

    Args:
        spec: `shapes` (built in); a file or a folder; or the name of a folder under $FCOS_DATA, ./data or ./datasets,
            such as `coco` in COCO's own layout. A folder holds files of a format that is known (`formats/known.py`), or
            bare images. A file is a COCO annotation file, a YOLO index (`data.yaml`), or another that a format knows.
        split: train, val, test or a name of the data set's own; other spellings are understood (val: valid, validation,
            val2017). None: the only one there is. A COCO annotation file is one split, and `split` is not looked at.
        image_dir: the folder of the images, where they are not found by themselves.
        stretch: whether 16-bit gray images are stretched (`data.stretch_16_bit`).

    Raises:
        DataError: nothing is found (says where it looked), the split does not exist, or the files are broken.
    """
    _, splits = find_splits(spec)
    data = splits[choose_split(split, splits, spec)].open()
    if image_dir and data.source.on_disk:
        data = found_in(data, Path(image_dir).expanduser())
    return stretched(data) if stretch else data


def find_splits(spec: str) -> tuple[str, dict[str, Split]]:
    """The layout of a data set (COCO, Pascal VOC, YOLO, images, built in) and its splits, without reading them.

    Raises:
        DataError: nothing is found, or it is of no known layout.
    """
    if spec == BUILT_IN:
        return "built in", _shapes_splits()
    path = _locate(spec)
    if path.is_file():
        return _file_splits(path)
    for form in FORMATS:
        splits = form.folder_splits(path)
        if splits:
            return form.name, dict(sorted(splits.items(), key=lambda item: _split_order(item[0])))
    if next(images_below(path), None) is None:
        lying = "; ".join(finding.line for finding in survey(path, {}, {}))
        raise DataError(
            f"{path} holds no data set that is understood" + (f", but {lying}" if lying else ""),
            "; ".join(f"{form.name}: {form.layout}" for form in FORMATS) + "; or images",
        )
    return IMAGES, {ALL: Split(lambda: image_files([str(path)]), lambda: _count(images_below(path)), files=tuple)}


def findings_around(
    spec: str, layout: str, splits: Mapping[str, Split], opened: Mapping[str, DetectionData]
) -> tuple[Finding, ...]:
    """What there is to say of a data set as a whole (`unread.survey`): files that no split takes, splits not there.

    Args:
        spec: what the user typed.
        layout, splits: what `find_splits` says of it.
        opened: the splits that were read.
    """
    return () if spec == BUILT_IN else survey(_locate(spec), splits, opened, annotated=layout != IMAGES)


def data_roots() -> list[Path]:
    """The folders in which data sets are found by name: $FCOS_DATA, ./data, ./datasets."""
    given = os.environ.get("FCOS_DATA")
    return [*([Path(given).expanduser()] if given else []), Path("data"), Path("datasets")]


def known_names() -> dict[str, Path]:
    """Names of the folders under the roots, and where they are; the first root wins."""
    names: dict[str, Path] = {}
    for root in data_roots():
        if root.is_dir():
            for folder in sorted(root.iterdir()):
                if folder.is_dir() and not folder.name.startswith("."):
                    names.setdefault(folder.name, folder)
    return names


def _shapes_splits() -> dict[str, Split]:
    from fcos_cli.data.shapes.dataset import SPLITS, shapes_data

    def split(name: str, count: int) -> Split:
        return Split(open=lambda: shapes_data(name), count=lambda: count)

    return {name: split(name, count) for name, count in SPLITS.items()}


def _locate(spec: str) -> Path:
    path = Path(spec).expanduser()
    if path.exists():
        return path
    roots = [] if path.is_absolute() else data_roots()
    for root in roots:
        if (root / spec).exists():
            return root / spec
        if root.name == spec and root.is_dir():
            return root
    looked = ", ".join(str(place) for place in [path, *(root / spec for root in roots)])
    near = difflib.get_close_matches(spec, [BUILT_IN, *known_names()], n=1)
    advice = f"did you mean {near[0]}? " if near else ""
    unset = "" if os.environ.get("FCOS_DATA") else "set FCOS_DATA to the folder of your data sets, or "
    raise DataError(
        f"no data set {spec}: looked for {looked}",
        f"{advice}{unset}give the path of a folder or annotation file; fcos data list shows what is found",
    )


def _file_splits(path: Path) -> tuple[str, dict[str, Split]]:
    form = format_of_file(path)
    if form is not None:
        return form.name, form.file_splits(path)
    if is_image_name(path):
        return IMAGES, {ALL: Split(open=lambda: image_files([str(path)]), count=lambda: 1)}
    files = ", ".join(form.file for form in FORMATS if form.file)
    raise DataError(f"{path}: not a data set", f"give a folder, {files}")


def _count(items: Iterable[object]) -> int:
    return sum(1 for _ in items)


def _split_order(name: str) -> tuple[int, str]:
    known = meaning(name)
    return (_ORDER.index(known) if known else len(_ORDER), name)
