"""Forward kernels of GroupNorm + ReLU; blocks and layouts are explained in triton_shared.py.

(1) mean and M2 = sum (x - mean)^2 of every channel in every block, in two passes over registers; (2) their merger by
(level, image, group) in a fixed order (Chan); (3) normalise and ReLU, from the last block and channel to the first:
what (1) read last is still in the L2 cache.
"""

# mypy: allow-untyped-defs
import triton
import triton.language as tl

from fcos_kernels.common.triton_levels import at
from fcos_kernels.group_norm_relu.triton_shared import (
    _affine,
    _channels,
    _load_run,
    _place,
    _sizes,
    _store_run,
)


@triton.jit
def _group_norm_relu_stats_kernel(
    p_xs,
    levels,
    p_partial_mean,
    p_partial_m2,
    LEVELS: tl.constexpr,
    C: tl.constexpr,
    LAST: tl.constexpr,
    RUN: tl.constexpr,
    TILES: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Of every block: mean and M2 of each channel, to [blocks, C]."""
    block = tl.program_id(0)
    level, image, within, locations = _place(levels, block, LEVELS)
    p_x = at(p_xs, level, LEVELS)
    begin = within * (RUN * TILES)
    o_partial = block.to(tl.int64) * C
    if LAST:
        o_channel = tl.arange(0, BLOCK_C)
        m_channel = o_channel < C
        o_run = tl.arange(0, RUN)
        p_x += (image.to(tl.int64) * locations + begin) * C
        mean = tl.zeros([BLOCK_C], tl.float32)
        m2 = tl.zeros([BLOCK_C], tl.float32)
        for tile in range(TILES):
            here = tl.minimum(tl.maximum(locations - begin - tile * RUN, 0), RUN)
            m_run = o_run < here
            o = (tile * RUN + o_run)[:, None] * C + o_channel[None, :]
            b_x = tl.load(p_x + o, mask=m_run[:, None] & m_channel[None, :], other=0.0).to(tl.float32)
            # Chan: the tile joins those before it
            tile_mean = tl.sum(b_x, 0) / tl.maximum(here, 1)
            b_centred = tl.where(m_run[:, None], b_x - tile_mean[None, :], 0.0)
            share = here / tl.maximum(tile * RUN + here, 1).to(tl.float32)
            gap = tile_mean - mean
            m2 += tl.sum(b_centred * b_centred, 0) + gap * gap * (share * (tile * RUN))
            mean += gap * share
        tl.store(p_partial_mean + o_partial + o_channel, mean, mask=m_channel)
        tl.store(p_partial_m2 + o_partial + o_channel, m2, mask=m_channel)
    else:
        channel = tl.program_id(1)
        here = tl.minimum(locations - begin, RUN)
        start = (image.to(tl.int64) * C + channel) * locations + begin
        b_x = _load_run(p_x, start, here, locations, RUN)
        mean = tl.sum(b_x, 0) / here
        b_centred = tl.where(tl.arange(0, RUN) < here, b_x - mean, 0.0)
        tl.store(p_partial_mean + o_partial + channel, mean)
        tl.store(p_partial_m2 + o_partial + channel, tl.sum(b_centred * b_centred, 0))


@triton.jit(do_not_specialize=["images"])
def _group_norm_relu_merge_kernel(
    levels,
    p_partial_mean,
    p_partial_m2,
    p_mean,
    p_rstd,
    images,
    eps,
    LEVELS: tl.constexpr,
    C: tl.constexpr,
    G: tl.constexpr,
    PER_BLOCK: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_CG: tl.constexpr,
):
    """mean and rstd of one (level, image, group) from the partial results of its blocks."""
    row, group = tl.program_id(0), tl.program_id(1)
    level, image = row // images, row % images
    first, per_image, locations = _sizes(levels, level, LEVELS)
    first = (first + image * per_image).to(tl.int64)
    CG: tl.constexpr = C // G
    o_channel = tl.arange(0, BLOCK_CG)[None, :]
    o_chunk = tl.arange(0, CHUNK)[:, None]
    o_partial = first * C + group * CG
    size = tl.maximum(locations * CG, 1).to(tl.float32)
    # the mean first, then M2 about it: two passes over the partial results
    total = tl.zeros([CHUNK, BLOCK_CG], tl.float32)
    begin = 0
    while begin < per_image:
        block = begin + o_chunk
        m = (block < per_image) & (o_channel < CG)
        count = tl.minimum(locations - block * PER_BLOCK, PER_BLOCK).to(tl.float32)
        o = o_partial + block.to(tl.int64) * C + o_channel
        total += tl.where(m, count * tl.load(p_partial_mean + o, mask=m, other=0.0), 0.0)
        begin += CHUNK
    mean = tl.sum(tl.sum(total, 1), 0) / size
    spread = tl.zeros([CHUNK, BLOCK_CG], tl.float32)
    begin = 0
    while begin < per_image:
        block = begin + o_chunk
        m = (block < per_image) & (o_channel < CG)
        count = tl.minimum(locations - block * PER_BLOCK, PER_BLOCK).to(tl.float32)
        o = o_partial + block.to(tl.int64) * C + o_channel
        gap = tl.load(p_partial_mean + o, mask=m, other=0.0) - mean
        spread += tl.where(m, tl.load(p_partial_m2 + o, mask=m, other=0.0) + count * gap * gap, 0.0)
        begin += CHUNK
    variance = tl.sum(tl.sum(spread, 1), 0) / size
    tl.store(p_mean + row * G + group, mean)
    tl.store(p_rstd + row * G + group, 1.0 / tl.sqrt(variance + eps))


@triton.jit(do_not_specialize=["images"])
def _group_norm_relu_fwd_kernel(
    p_xs,
    p_ys,
    levels,
    p_mean,
    p_rstd,
    p_weight,
    p_bias,
    images,
    LEVELS: tl.constexpr,
    C: tl.constexpr,
    G: tl.constexpr,
    LAST: tl.constexpr,
    RUN: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """max(xhat weight + bias, 0) of one block."""
    block = tl.num_programs(0) - 1 - tl.program_id(0)
    level, image, within, locations = _place(levels, block, LEVELS)
    p_x = at(p_xs, level, LEVELS)
    p_y = at(p_ys, level, LEVELS)
    begin = within * RUN
    row = level * images + image
    if LAST:
        o_channel = tl.arange(0, BLOCK_C)
        m_channel = o_channel < C
        mean, rstd, weight, bias = _channels(row, p_mean, p_rstd, p_weight, p_bias, o_channel, m_channel, C, G)
        o_run = tl.arange(0, RUN)
        start = (image.to(tl.int64) * locations + begin) * C
        o = o_run[:, None] * C + o_channel[None, :]
        m = (o_run < locations - begin)[:, None] & m_channel[None, :]
        b_x = tl.load(p_x + start + o, mask=m, other=0.0).to(tl.float32)
        _, b_y = _affine(b_x, mean[None, :], rstd[None, :], weight[None, :], bias[None, :])
        # not a maximum: NaN stays NaN
        tl.store(p_y + start + o, tl.where(b_y <= 0, 0.0, b_y), mask=m)
    else:
        channel = C - 1 - tl.program_id(1)
        mean, rstd, weight, bias = _channels(row, p_mean, p_rstd, p_weight, p_bias, channel, channel < C, C, G)
        here = tl.minimum(locations - begin, RUN)
        start = (image.to(tl.int64) * C + channel) * locations + begin
        _, b_y = _affine(_load_run(p_x, start, here, locations, RUN), mean, rstd, weight, bias)
        _store_run(p_y, tl.where(b_y <= 0, 0.0, b_y), start, here, locations, RUN)
