"""`fcos_kernels.loss.focal` under its public name: the focal loss alone."""

from fcos_kernels.loss.focal import focal_loss

__all__ = ["focal_loss"]
