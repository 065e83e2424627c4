"""Constants of several kernels."""

import triton.language as tl

from fcos_kernels.common import outputs

LOG2_E = tl.constexpr(1.4426950408889634)
MAX_EXPONENT = tl.constexpr(outputs.MAX_EXPONENT)
MAX_DISTANCE = tl.constexpr(outputs.MAX_DISTANCE)
