"""Non-maximum suppression. Names load on first use."""

from typing import TYPE_CHECKING

from fcos_kernels.common import lazy

if TYPE_CHECKING:
    from fcos_kernels.nms.op import batched_nms, batched_nms_packed, nms
else:
    __getattr__ = lazy.names(__name__, op="batched_nms batched_nms_packed nms")

__all__ = ["batched_nms", "batched_nms_packed", "nms"]
