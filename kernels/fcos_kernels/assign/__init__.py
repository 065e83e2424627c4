"""Assignment of locations to ground-truth boxes. Names load on first use; `paint.py` does without torch."""

from typing import TYPE_CHECKING

from fcos_kernels.common import lazy

if TYPE_CHECKING:
    from fcos_kernels.assign.op import Assignment, assign
else:
    __getattr__ = lazy.names(__name__, op="Assignment assign")

__all__ = ["Assignment", "assign"]
