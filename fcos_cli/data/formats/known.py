"""The annotation formats that the toolkit reads, in the order in which a folder is tried."""

from pathlib import Path

from fcos_cli.data.formats.coco import COCO
from fcos_cli.data.formats.format import Format
from fcos_cli.data.formats.voc import VOC
from fcos_cli.data.formats.yolo import YOLO

FORMATS: tuple[Format, ...] = (COCO, VOC, YOLO)


def format_of_file(file: Path) -> Format | None:
    """The format whose single files have this ending; None where there is none."""
    return next((form for form in FORMATS if file.suffix.lower() in form.suffixes), None)
