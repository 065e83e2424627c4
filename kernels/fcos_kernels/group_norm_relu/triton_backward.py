"""Backward kernels of GroupNorm + ReLU; blocks and layouts are explained in triton_shared.py.

(1) The sums of dy' and dy' xhat of every channel in every block; (2) by (level, image, group), in a fixed order, its
channels' sums and the two coefficients; (3) dx, from the last block and channel to the first: what (1) read last is
still in the L2 cache. dy' is dy where the output, recomputed, is above 0.
"""

# mypy: allow-untyped-defs
import triton
import triton.language as tl

from fcos_kernels.common.triton_levels import at
from fcos_kernels.group_norm_relu.triton_shared import (
    _affine,
    _channels,
    _load_run,
    _passed,
    _place,
    _sizes,
    _store_run,
)


@triton.jit(do_not_specialize=["images"])
def _group_norm_relu_sums_kernel(
    p_xs,
    p_dys,
    levels,
    p_mean,
    p_rstd,
    p_weight,
    p_bias,
    p_partial,
    p_partial_xhat,
    images,
    LEVELS: tl.constexpr,
    C: tl.constexpr,
    G: tl.constexpr,
    LAST: tl.constexpr,
    RUN: tl.constexpr,
    TILES: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """Of every block: sums of dy' and of dy' xhat of each channel, to [blocks, C]."""
    block = tl.program_id(0)
    level, image, within, locations = _place(levels, block, LEVELS)
    p_x = at(p_xs, level, LEVELS)
    p_dy = at(p_dys, level, LEVELS)
    begin = within * (RUN * TILES)
    row = level * images + image
    o_partial = block.to(tl.int64) * C
    if LAST:
        o_channel = tl.arange(0, BLOCK_C)
        m_channel = o_channel < C
        mean, rstd, weight, bias = _channels(row, p_mean, p_rstd, p_weight, p_bias, o_channel, m_channel, C, G)
        o_run = tl.arange(0, RUN)
        start = (image.to(tl.int64) * locations + begin) * C
        total = tl.zeros([BLOCK_C], tl.float32)
        total_xhat = tl.zeros([BLOCK_C], tl.float32)
        for tile in range(TILES):
            o = (tile * RUN + o_run)[:, None] * C + o_channel[None, :]
            m = (tile * RUN + o_run < locations - begin)[:, None] & m_channel[None, :]
            b_x = tl.load(p_x + start + o, mask=m, other=0.0).to(tl.float32)
            b_dy = tl.load(p_dy + start + o, mask=m, other=0.0).to(tl.float32)
            b_xhat, b_y = _affine(b_x, mean[None, :], rstd[None, :], weight[None, :], bias[None, :])
            b_dy = _passed(b_y, b_dy, p_dy)
            total += tl.sum(b_dy, 0)
            total_xhat += tl.sum(b_dy * b_xhat, 0)
        tl.store(p_partial + o_partial + o_channel, total, mask=m_channel)
        tl.store(p_partial_xhat + o_partial + o_channel, total_xhat, mask=m_channel)
    else:
        channel = tl.program_id(1)
        mean, rstd, weight, bias = _channels(row, p_mean, p_rstd, p_weight, p_bias, channel, channel < C, C, G)
        here = tl.minimum(locations - begin, RUN)
        start = (image.to(tl.int64) * C + channel) * locations + begin
        # dy before x: in the other order registers spill under Triton 3.7 on sm_100.
        b_dy = _load_run(p_dy, start, here, locations, RUN)
        b_xhat, b_y = _affine(_load_run(p_x, start, here, locations, RUN), mean, rstd, weight, bias)
        b_dy = _passed(b_y, b_dy, p_dy)
        tl.store(p_partial + o_partial + channel, tl.sum(b_dy, 0))
        tl.store(p_partial_xhat + o_partial + channel, tl.sum(b_dy * b_xhat, 0))


@triton.jit(do_not_specialize=["images"])
def _group_norm_relu_coefficients_kernel(
    levels,
    p_partial,
    p_partial_xhat,
    p_weight,
    p_by_bias,
    p_by_weight,
    p_across,
    p_along,
    images,
    LEVELS: tl.constexpr,
    C: tl.constexpr,
    G: tl.constexpr,
    CHUNK: tl.constexpr,
    BLOCK_CG: tl.constexpr,
):
    """Of one (level, image, group): its channels' sums [rows, C]; means of weight dy' and weight dy' xhat [rows, G]."""
    row, group = tl.program_id(0), tl.program_id(1)
    level, image = row // images, row % images
    first, per_image, locations = _sizes(levels, level, LEVELS)
    first = (first + image * per_image).to(tl.int64)
    CG: tl.constexpr = C // G
    o_channel = tl.arange(0, BLOCK_CG)
    m_channel = o_channel < CG
    o_chunk = tl.arange(0, CHUNK)
    total = tl.zeros([CHUNK, BLOCK_CG], tl.float32)
    total_xhat = tl.zeros([CHUNK, BLOCK_CG], tl.float32)
    begin = 0
    while begin < per_image:
        m = (begin + o_chunk < per_image)[:, None] & m_channel[None, :]
        o = (first + begin + o_chunk)[:, None] * C + group * CG + o_channel[None, :]
        total += tl.load(p_partial + o, mask=m, other=0.0)
        total_xhat += tl.load(p_partial_xhat + o, mask=m, other=0.0)
        begin += CHUNK
    by_bias, by_weight = tl.sum(total, 0), tl.sum(total_xhat, 0)
    o = row.to(tl.int64) * C + group * CG + o_channel
    tl.store(p_by_bias + o, by_bias, mask=m_channel)
    tl.store(p_by_weight + o, by_weight, mask=m_channel)
    weight = tl.load(p_weight + group * CG + o_channel, mask=m_channel, other=0.0).to(tl.float32)
    size = tl.maximum(locations * CG, 1).to(tl.float32)
    tl.store(p_across + row * G + group, tl.sum(by_bias * weight, 0) / size)
    tl.store(p_along + row * G + group, tl.sum(by_weight * weight, 0) / size)


@triton.jit(do_not_specialize=["images"])
def _group_norm_relu_bwd_kernel(
    p_xs,
    p_dys,
    p_dxs,
    levels,
    p_mean,
    p_rstd,
    p_weight,
    p_bias,
    p_across,
    p_along,
    images,
    LEVELS: tl.constexpr,
    C: tl.constexpr,
    G: tl.constexpr,
    LAST: tl.constexpr,
    RUN: tl.constexpr,
    BLOCK_C: tl.constexpr,
):
    """dx = rstd (weight dy' - across - xhat along) of one block."""
    block = tl.num_programs(0) - 1 - tl.program_id(0)
    level, image, within, locations = _place(levels, block, LEVELS)
    p_x = at(p_xs, level, LEVELS)
    p_dy = at(p_dys, level, LEVELS)
    p_dx = at(p_dxs, level, LEVELS)
    begin = within * RUN
    row = level * images + image
    if LAST:
        o_channel = tl.arange(0, BLOCK_C)
        m_channel = o_channel < C
        mean, rstd, weight, bias = _channels(row, p_mean, p_rstd, p_weight, p_bias, o_channel, m_channel, C, G)
        o_group = row * G + o_channel // (C // G)
        across = tl.load(p_across + o_group, mask=m_channel, other=0.0)
        along = tl.load(p_along + o_group, mask=m_channel, other=0.0)
        o_run = tl.arange(0, RUN)
        start = (image.to(tl.int64) * locations + begin) * C
        o = o_run[:, None] * C + o_channel[None, :]
        m = (o_run < locations - begin)[:, None] & m_channel[None, :]
        b_x = tl.load(p_x + start + o, mask=m, other=0.0).to(tl.float32)
        b_dy = tl.load(p_dy + start + o, mask=m, other=0.0).to(tl.float32)
        b_xhat, b_y = _affine(b_x, mean[None, :], rstd[None, :], weight[None, :], bias[None, :])
        b_dy = _passed(b_y, b_dy, p_dy)
        b_dx = rstd[None, :] * (weight[None, :] * b_dy - across[None, :] - b_xhat * along[None, :])
        tl.store(p_dx + start + o, b_dx, mask=m)
    else:
        channel = C - 1 - tl.program_id(1)
        mean, rstd, weight, bias = _channels(row, p_mean, p_rstd, p_weight, p_bias, channel, channel < C, C, G)
        o_group = row * G + channel // (C // G)
        across, along = tl.load(p_across + o_group), tl.load(p_along + o_group)
        here = tl.minimum(locations - begin, RUN)
        start = (image.to(tl.int64) * C + channel) * locations + begin
        b_xhat, b_y = _affine(_load_run(p_x, start, here, locations, RUN), mean, rstd, weight, bias)
        b_dy = _passed(b_y, _load_run(p_dy, start, here, locations, RUN), p_dy)
        b_dx = rstd * (weight * b_dy - across - b_xhat * along)
        _store_run(p_dx, b_dx, start, here, locations, RUN)
