"""Non-maximum suppression. Names load on first use."""

from typing import TYPE_CHECKING

from fcos_kernels.common import lazy

if TYPE_CHECKING:
    from fcos_kernels.nms.op import batched_nms, nms
else:
    __getattr__ = lazy.names(__name__, op="batched_nms nms")

__all__ = ["batched_nms", "nms"]
