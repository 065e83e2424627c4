"""What the Triton kernels of GroupNorm + ReLU share: where a block lies, and the formula.

A block is a run of locations of one image of one level. Channels-last, a program takes a block with all its channels;
contiguous, one channel of it: a channel's locations are one run of memory then. Blocks are numbered level by level,
image by image, so that partial results are [blocks, C], whatever the layout.
"""

# mypy: allow-untyped-defs
import triton
import triton.language as tl

from fcos_kernels.common.triton_levels import at, level_of


@triton.jit
def _place(levels, block, LEVELS: tl.constexpr):
    """Level, image, block within the image and locations of the image, of a block's number."""
    level = level_of(levels[0], block, LEVELS)
    first, per_image, locations = _sizes(levels, level, LEVELS)
    image = (block - first) // per_image
    return level, image, (block - first) % per_image, locations


@triton.jit
def _sizes(levels, level, LEVELS: tl.constexpr):
    """Number of the first block, blocks and locations of an image."""
    first = tl.cast(at(levels[0], level, LEVELS), tl.int32)
    per_image = tl.cast(at(levels[1], level, LEVELS), tl.int32)
    return first, per_image, tl.cast(at(levels[2], level, LEVELS), tl.int32)


@triton.jit
def _affine(b_x, mean, rstd, weight, bias):
    """xhat and the output before the ReLU; one place, so that forward and backward agree on its sign."""
    b_xhat = (b_x - mean) * rstd
    return b_xhat, b_xhat * weight + bias


@triton.jit
def _passed(b_y, b_dy, p_y):
    """dy where the output, in its dtype, is above 0 (or NaN), else 0."""
    rounded = b_y.to(p_y.dtype.element_ty).to(tl.float32)
    return tl.where(rounded <= 0, 0.0, b_dy)


@triton.jit
def _channels(row, p_mean, p_rstd, p_weight, p_bias, o_channel, m_channel, C: tl.constexpr, G: tl.constexpr):
    """mean, rstd, weight and bias of some channels of a row (level, image) of the statistics."""
    o_group = row * G + o_channel // (C // G)
    mean = tl.load(p_mean + o_group, mask=m_channel, other=0.0)
    rstd = tl.load(p_rstd + o_group, mask=m_channel, other=0.0)
    weight = tl.load(p_weight + o_channel, mask=m_channel, other=0.0).to(tl.float32)
    bias = tl.load(p_bias + o_channel, mask=m_channel, other=0.0).to(tl.float32)
    return mean, rstd, weight, bias


@triton.jit
def _load_run(p_x, start, here, locations, RUN: tl.constexpr):
    """A run of a contiguous channel, float32; with 16-byte loads where channels start at multiples of 8 elements."""
    o = tl.arange(0, RUN)
    if locations % 8 == 0:
        b_x = tl.load(p_x + (start // 8) * 8 + o, mask=o < (here // 8) * 8, other=0.0).to(tl.float32)
    else:
        b_x = tl.load(p_x + start + o, mask=o < here, other=0.0).to(tl.float32)
    return b_x


@triton.jit
def _store_run(p_y, b_y, start, here, locations, RUN: tl.constexpr):
    o = tl.arange(0, RUN)
    if locations % 8 == 0:
        tl.store(p_y + (start // 8) * 8 + o, b_y, mask=o < (here // 8) * 8)
    else:
        tl.store(p_y + start + o, b_y, mask=o < here)
