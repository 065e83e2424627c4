"""The formats that `fcos data convert` writes."""

from fcos_cli.data.convert.coco import Coco
from fcos_cli.data.convert.target import Target
from fcos_cli.data.convert.voc import Voc
from fcos_cli.data.convert.yolo import Yolo

TARGETS: dict[str, type[Target]] = {target.name: target for target in (Coco, Yolo, Voc)}
