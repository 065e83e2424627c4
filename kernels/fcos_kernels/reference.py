"""The ops once more, straight from their definitions: each folder holds its own `reference.py`, here they all are."""

from fcos_kernels.assign.reference import assign
from fcos_kernels.common.reference import centerness, locations
from fcos_kernels.decode.reference import decode
from fcos_kernels.group_norm_relu.reference import group_norm_relu
from fcos_kernels.loss.reference import box_loss, detection_loss, focal_loss
from fcos_kernels.nms.reference import nms

__all__ = [
    "assign",
    "box_loss",
    "centerness",
    "decode",
    "detection_loss",
    "focal_loss",
    "group_norm_relu",
    "locations",
    "nms",
]
