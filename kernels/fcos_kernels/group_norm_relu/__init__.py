"""GroupNorm and ReLU in one. Names load on first use."""

from typing import TYPE_CHECKING

from fcos_kernels.common import lazy

if TYPE_CHECKING:
    from fcos_kernels.group_norm_relu.op import group_norm_relu
else:
    __getattr__ = lazy.names(__name__, op="group_norm_relu")

__all__ = ["group_norm_relu"]
