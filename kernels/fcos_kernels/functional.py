"""The ops as functions, in one place: `from fcos_kernels.functional import assign, detection_loss`. Imports torch."""

from fcos_kernels.assign import assign
from fcos_kernels.decode import decode, decode_padded
from fcos_kernels.group_norm_relu import group_norm_relu
from fcos_kernels.loss import box_loss, detection_loss, focal_loss
from fcos_kernels.nms import batched_nms, nms

__all__ = [
    "assign",
    "batched_nms",
    "box_loss",
    "decode",
    "decode_padded",
    "detection_loss",
    "focal_loss",
    "group_norm_relu",
    "nms",
]
