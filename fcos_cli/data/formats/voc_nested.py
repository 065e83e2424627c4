"""Pascal VOC files that lie deeper, or in folders of their own for each split.

Known layouts: `VOCdevkit/VOC2007/Annotations` with its lists; `Annotations/<split>` beside `JPEGImages/<split>` or
`images`; `<split>/Annotations` beside `<split>/JPEGImages`.
"""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from fcos_cli.data.formats.format import Format
from fcos_cli.data.formats.splits import ALL, Split, class_names_beside, meaning
from fcos_cli.data.formats.voc import has_images, has_voc_files, read_voc, voc_splits, xml_files
from fcos_cli.data.records import DetectionData

_DEEPEST = 3
_NO_SPLIT = frozenset({"annotations", "annotation", "annots", "xml", "xmls", "labels", "voc", "vocdevkit", "data"})
_IMAGES = ("JPEGImages", "images", "Images", "imgs", "img")


def voc_nested_splits(folder: Path) -> dict[str, Split]:
    """The splits of a folder in one of these layouts, or none where it has another."""
    places = list(_annotation_folders(folder))
    years = [place.parent for place in places if (place.parent / "ImageSets" / "Main").is_dir()]
    if years:
        return _of_years(folder, years)
    groups: dict[str, list[Path]] = {}
    for place in places:
        parts = [part for part in place.relative_to(folder).parts if part.lower() not in _NO_SPLIT]
        groups.setdefault("_".join(parts) or ALL, []).append(place)
    if not any(meaning(name) for name in groups):
        groups = {ALL: places} if places else {}
    return {name: _split(folder, name, inside, places) for name, inside in groups.items()}


def _of_years(folder: Path, years: list[Path]) -> dict[str, Split]:
    """The lists of one VOC2007, or of several, with the year before the split's name."""
    if len(years) == 1:
        return voc_splits(years[0])
    found = {}
    for year in years:
        for name, split in voc_splits(year).items():
            found[f"{year.name}_{name}"] = replace(split, any_name=False)
    return found


def _annotation_folders(folder: Path, depth: int = 1) -> Iterator[Path]:
    for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
        if inner.name.lower() in map(str.lower, _IMAGES) and depth == 1 and not has_voc_files(inner):
            continue
        if has_voc_files(inner):
            yield inner
        elif depth < _DEEPEST:
            yield from _annotation_folders(inner, depth + 1)


def _split(folder: Path, split: str, places: list[Path], everything: list[Path]) -> Split:
    name = folder.name if split == ALL else f"{folder.name} {split}"

    def files() -> list[Path]:
        return [file for place in places for file in xml_files(place)]

    def read() -> DetectionData:
        classes = class_names_beside(folder, *everything)
        others = [file for place in everything for file in xml_files(place)]
        return read_voc(
            files(), image_folder(folder, places[0]), all_files=others, classes=classes, name=name, below=folder
        )

    return Split(open=read, count=lambda: len(files()), any_name=split == ALL, files=files)


def image_folder(folder: Path, annotations: Path) -> Path:
    """Where the images of a folder of XML files are: the one of the usual places that holds the first of them."""
    stem = next(iter(xml_files(annotations))).stem
    above, own = annotations.parent, annotations.name
    places = [
        *(above / name for name in _IMAGES),
        *(above.parent / name / own for name in _IMAGES),
        *(above.parent / name for name in _IMAGES),
        *(folder / name / part for name in _IMAGES for part in (own, above.name)),
        *(folder / name for name in _IMAGES),
        annotations,
        above,
        folder / own,
        folder,
    ]
    found = [place for place in dict.fromkeys(places) if has_images(place)]
    return next((place for place in found if any(place.glob(f"{stem}.*"))), found[0] if found else annotations)


VOC_NESTED = Format("Pascal VOC", "VOCdevkit/VOC2007, Annotations/<split>/*.xml", voc_nested_splits)
