"""COCO files in a folder for each split: `train/annotations.json` beside its images, FiftyOne's `train/labels.json`."""

from pathlib import Path

from fcos_cli.data.formats.coco import coco_split
from fcos_cli.data.formats.coco_file import looks_like_coco
from fcos_cli.data.formats.format import Format
from fcos_cli.data.formats.named import folders_of_splits, title
from fcos_cli.data.formats.splits import ALL, Split


def coco_per_split(folder: Path) -> dict[str, Split]:
    """The splits of a folder whose inner folders hold one COCO file each, in them or in their `annotations`."""
    places = folders_of_splits(folder, lambda place: place != folder and _file(place) is not None)
    splits = {}
    for name, inside in places.items():
        files = [file for place in inside if (file := _file(place)) is not None]
        for file in files:
            # Several folders whose names mean no split are opened one by one.
            own = name if len(files) == 1 else file.relative_to(folder).parts[0]
            splits[own] = coco_split(file, title(folder, own), folder, any_name=own == ALL)
    return splits


def _file(folder: Path) -> Path | None:
    for place in (folder, folder / "annotations"):
        files = [file for file in sorted(place.glob("*.json")) if file.name[:1] != "." and looks_like_coco(file)]
        if len(files) == 1:
            return files[0]
    return None


COCO_PER_SPLIT = Format("COCO", "<split>/*.json", coco_per_split)
