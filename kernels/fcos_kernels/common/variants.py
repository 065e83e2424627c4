"""What ahead-of-time compilation needs to know of a kernel: one way in which it is launched."""

from typing import Any, NamedTuple

POINTERS = {"float32": "*fp32", "bfloat16": "*bf16", "float16": "*fp16"}
"""Triton's type of a pointer to each dtype that kernels take."""


class Variant(NamedTuple):
    """A kernel with the types and constants of one launch.

    kernel: the function under `triton.jit`.
    name: of the kernel, with what sets the variant apart from the others of its dtype.
    dtype: of the tensors it is about, such as "bfloat16".
    signature: argument -> Triton type ("*bf16", "i32", "fp32", "constexpr"; a tuple of types for a tuple).
    constants: constexpr argument -> value.
    aligned: arguments whose pointers are known to be multiples of 16 bytes, as those of PyTorch's tensors are.
    num_warps: of the launch.
    wide_loads: arguments from which a thread must load 16 bytes at once on NVIDIA GPUs: those that are read whole.
    fused: whether a product and a sum may become one instruction, rounded once (the launch's enable_fp_fusion).
    few_warps: why it is right where an SM cannot hold half of its warps of this kernel; "" where it can.
    """

    kernel: Any
    name: str
    dtype: str
    signature: dict[str, Any]
    constants: dict[str, Any]
    aligned: tuple[str, ...]
    num_warps: int = 4
    wide_loads: tuple[str, ...] = ()
    fused: bool = True
    few_warps: str = ""
