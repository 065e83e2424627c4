"""The annotation formats that the toolkit reads, in the order in which a folder is tried."""

from pathlib import Path

from fcos_cli.data.formats.coco import COCO
from fcos_cli.data.formats.coco_per_split import COCO_PER_SPLIT
from fcos_cli.data.formats.cvat import CVAT
from fcos_cli.data.formats.darknet import DARKNET
from fcos_cli.data.formats.format import Format
from fcos_cli.data.formats.kitti import KITTI
from fcos_cli.data.formats.label_studio import LABEL_STUDIO
from fcos_cli.data.formats.labelme import LABELME
from fcos_cli.data.formats.open_images import OPEN_IMAGES
from fcos_cli.data.formats.voc import VOC
from fcos_cli.data.formats.voc_nested import VOC_NESTED
from fcos_cli.data.formats.yolo import YOLO
from fcos_cli.data.formats.yolo_flat import YOLO_FLAT

# KITTI's labels lie where YOLO's do and are told from them by their lines; a COCO file may be any JSON file, and so
# says last whether it is one.
FORMATS: tuple[Format, ...] = (
    *(COCO, VOC, KITTI, DARKNET, YOLO),
    *(COCO_PER_SPLIT, VOC_NESTED, YOLO_FLAT, CVAT, LABELME, LABEL_STUDIO, OPEN_IMAGES),
)


def format_of_file(file: Path) -> Format | None:
    """The format of a single file, by its ending; of several with this ending, the one that recognises it."""
    fitting = [form for form in FORMATS if file.suffix.lower() in form.suffixes]
    sure = [form for form in fitting if form is not COCO and form.recognises(file)]
    return next(iter([*sure, *fitting]), None)
