"""`fcos_kernels.common.dispatch` under its short name: which implementation an op runs."""

from fcos_kernels.common.dispatch import (
    CHOICES,
    VARIABLE,
    Choice,
    choose,
    chosen,
    has_triton,
    reason,
    use_triton,
    using,
)

__all__ = ["CHOICES", "VARIABLE", "Choice", "choose", "chosen", "has_triton", "reason", "use_triton", "using"]
