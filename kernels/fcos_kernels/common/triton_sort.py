"""A sort inside a Triton kernel: the keys of one program.

`tl.sort` does the same, but unrolls all its steps, and Triton's interpreter takes seconds for it.
"""

# mypy: allow-untyped-defs
import triton
import triton.language as tl


@triton.jit
def descending(b_key, SIZE: tl.constexpr):
    """The SIZE whole numbers, a power of 2, in descending order: Batcher's bitonic network, log2(SIZE)^2 / 2 steps."""
    o_key = tl.arange(0, SIZE)
    span = 2
    while span <= SIZE:
        step = span // 2
        while step > 0:
            b_other = tl.gather(b_key, o_key ^ step, 0)
            m_larger = ((o_key & step) == 0) == ((o_key & span) == 0)
            b_key = tl.where(m_larger, tl.maximum(b_key, b_other), tl.minimum(b_key, b_other))
            step = step // 2
        span = span * 2
    return b_key
