"""`fcos_kernels.assign.paint` under its short name: the assignment in NumPy alone, without torch."""

from fcos_kernels.assign.paint import Claims, Painted, claims, paint

__all__ = ["Claims", "Painted", "claims", "paint"]
