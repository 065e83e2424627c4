"""The losses of FCOS, together and alone. Names load on first use."""

from typing import TYPE_CHECKING

from fcos_kernels.common import lazy

if TYPE_CHECKING:
    from fcos_kernels.common.outputs import activate
    from fcos_kernels.loss.box import box_loss
    from fcos_kernels.loss.focal import focal_loss
    from fcos_kernels.loss.op import DetectionLosses, detection_loss
else:
    __getattr__ = lazy.names(
        __name__, op="DetectionLosses detection_loss", focal="focal_loss", box="box_loss", plain="activate"
    )

__all__ = ["DetectionLosses", "activate", "box_loss", "detection_loss", "focal_loss"]
