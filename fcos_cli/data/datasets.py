"""From what the user typed (a name, a folder, a file) to a data set."""

import difflib
import glob
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from fcos_cli.data.formats.coco import coco_split, coco_splits
from fcos_cli.data.formats.splits import ALL, Split, choose_split, meaning
from fcos_cli.data.formats.voc import voc_splits
from fcos_cli.data.formats.yolo import yolo_index_splits, yolo_splits
from fcos_cli.data.images import is_image_name, natural_key, read_from_folder, stable_ids
from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.errors import DataError

BUILT_IN = "shapes"
LAYOUTS = {"COCO": coco_splits, "Pascal VOC": voc_splits, "YOLO": yolo_splits}
_ORDER = ("train", "val", "test")


def open_data(spec: str, split: str | None = None) -> DetectionData:
    """The data set that `spec` names.

    Args:
        spec: `shapes` (built in); a file or a folder; or the name of a folder under $FCOS_DATA, ./data or ./datasets,
            such as `coco` in COCO's own layout. A folder holds COCO, Pascal VOC or YOLO files, or bare images. A file
            is a COCO annotation file or a YOLO index (`data.yaml`).
        split: train, val, test or a name of the data set's own; other spellings are understood (val: valid, validation,
            val2017). None: the only one there is. A COCO annotation file is one split, and `split` is not looked at.

    Raises:
        DataError: nothing is found (says where it looked), the split does not exist, or the files are broken.
    """
    layout, splits = find_splits(spec)
    if layout == "COCO" and list(splits) == [ALL]:
        return splits[ALL].open()
    return splits[choose_split(split, splits, spec)].open()


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
    for layout, splits_of in LAYOUTS.items():
        splits = splits_of(path)
        if splits:
            return layout, dict(sorted(splits.items(), key=lambda item: _split_order(item[0])))
    if next(_images_below(path), None) is None:
        raise DataError(
            f"{path} holds no data set that is understood",
            "COCO: annotations/*.json; Pascal VOC: Annotations/*.xml; YOLO: data.yaml or images/, labels/; or images",
        )
    return "images", {
        ALL: Split(open=lambda: image_files([str(path)]), count=lambda: sum(1 for _ in _images_below(path)))
    }


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


def image_files(sources: Sequence[str], leave_out: Sequence[str | Path] = ()) -> DetectionData:
    """Bare images as a data set without annotations.

    Folders are searched recursively for files with an image's extension; a file that is named itself is taken whatever
    its extension. A file that is found twice is taken once. Names are relative to the one folder, or to what all
    sources have in common, in natural order (2 before 10); ids are `stable_ids` of the names. Sizes are 0.

    Args:
        sources: files, folders and glob patterns (`**` reaches into folders).
        leave_out: folders in which nothing is searched for, unless a source lies in them itself.

    Raises:
        DataError: a source does not exist or holds no images.
    """
    found: dict[str, None] = {}
    hidden = [Path(os.path.abspath(folder)) for folder in leave_out]
    bases: list[str] = []
    for source in sources:
        base, files = _expand(source)
        bases.append(os.path.abspath(base))
        places = [place for place in hidden if not Path(bases[-1]).is_relative_to(place)]
        paths = (os.path.abspath(file) for file in files)
        found.update((path, None) for path in paths if not any(Path(path).is_relative_to(place) for place in places))
    if not found:
        raise DataError("no images were given", "name files, folders or patterns such as 'photos/*.jpg'")
    try:
        root = Path(os.path.commonpath(bases))
    except ValueError:
        raise DataError("the images lie on different drives", "give the sources one at a time") from None
    names = sorted((Path(os.path.relpath(file, root)).as_posix() for file in found), key=natural_key)
    return DetectionData(
        name=sources[0] if len(sources) == 1 else f"{len(names)} images",
        categories=Categories((), ()),
        image_ids=stable_ids(names),
        file_names=names,
        sizes=np.zeros((len(names), 2), dtype=np.int32),
        boxes=np.zeros((0, 4)),
        labels=np.zeros(0, dtype=np.int32),
        crowd=np.zeros(0, dtype=bool),
        areas=np.zeros(0),
        box_ids=np.zeros(0, dtype=np.int64),
        offsets=np.zeros(len(names) + 1, dtype=np.int64),
        root=root,
        reader=read_from_folder,
        annotated=False,
    )


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
    extension = path.suffix.lower()
    if extension == ".json":
        return "COCO", {ALL: coco_split(path, path.stem)}
    if extension in (".yaml", ".yml"):
        return "YOLO", yolo_index_splits(path)
    if is_image_name(path):
        return "images", {ALL: Split(open=lambda: image_files([str(path)]), count=lambda: 1)}
    raise DataError(f"{path}: not a data set", "give a folder, a COCO annotation file (.json) or a YOLO index (.yaml)")


def _split_order(name: str) -> tuple[int, str]:
    known = meaning(name)
    return (_ORDER.index(known) if known else len(_ORDER), name)


def _expand(source: str) -> tuple[Path, list[str]]:
    """The folder that names are relative to, and the files of one source."""
    path = Path(source).expanduser()
    if path.is_dir():
        files = list(_images_below(path))
        if not files:
            raise DataError(
                f"{source}: no images in this folder", "images are known by extensions such as .jpg and .png"
            )
        return path, files
    if path.is_file():
        return path.parent, [str(path)]
    if not glob.has_magic(source):
        raise DataError(
            f"{source}: no such file or folder", "check the path; a pattern such as 'photos/*.jpg' works too"
        )
    files = [file for file in glob.glob(str(path), recursive=True) if is_image_name(file) and os.path.isfile(file)]
    if not files:
        raise DataError(
            f"{source}: no image matches this pattern", "put the pattern in quotes; ** reaches into folders"
        )
    fixed = []
    for part in path.parts:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed), files


def _images_below(folder: Path) -> Iterator[str]:
    """Image files of a folder and those below; hidden ones are left out, linked folders are followed once."""
    seen: set[str] = set()
    for place, inner, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            inner.clear()
            continue
        seen.add(real)
        inner[:] = sorted(name for name in inner if not name.startswith("."))
        yield from (os.path.join(place, name) for name in sorted(files) if is_image_name(name))
