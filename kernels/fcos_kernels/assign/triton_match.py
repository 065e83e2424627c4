"""What a tile of locations and a box have to do with one another: the functions that `triton_assign` calls on the GPU.

A box is compared in float32 by the formulas of `paint.py`. No location is stored: x = start + column * stride is an
integer below 2^24, exact whether or not the product is fused with the sum. The same holds for (x0 + x1) * 0.5 - half,
as a product by 0.5 is exact, and `half` comes rounded from the host. So all decisions are those of the plain formula
rounded after every step, on every device.
"""

# Arguments have Triton's types, given at the launch.
# mypy: allow-untyped-defs

import triton
import triton.language as tl


@triton.jit
def find_level(levels, tile, LEVELS: tl.constexpr, TILE_H: tl.constexpr, TILE_W: tl.constexpr):
    """The level that has the tile, its first location, its numbers, and the tile's place in it."""
    all_rows, all_columns, strides, starts, lowers, uppers, halves = levels
    first, place = 0, tile
    rows, columns = tl.cast(all_rows[0], tl.int32), tl.cast(all_columns[0], tl.int32)
    stride, start, lower, upper, half = strides[0], starts[0], lowers[0], uppers[0], halves[0]
    next_first, next_tile = rows * columns, tl.cdiv(rows, TILE_H) * tl.cdiv(columns, TILE_W)
    for level in tl.static_range(1, LEVELS):
        here = tile >= next_tile
        own_rows, own_columns = tl.cast(all_rows[level], tl.int32), tl.cast(all_columns[level], tl.int32)
        first = tl.where(here, next_first, first)
        place = tl.where(here, tile - next_tile, place)
        rows = tl.where(here, own_rows, rows)
        columns = tl.where(here, own_columns, columns)
        stride = tl.where(here, strides[level], stride)
        start = tl.where(here, starts[level], start)
        lower = tl.where(here, lowers[level], lower)
        upper = tl.where(here, uppers[level], upper)
        half = tl.where(here, halves[level], half)
        next_first += own_rows * own_columns
        next_tile += tl.cdiv(own_rows, TILE_H) * tl.cdiv(own_columns, TILE_W)
    return first, rows, columns, stride, start, lower, upper, half, place


@triton.jit
def load_chunk(p_boxes, o_chunk, end, corners, CHUNK: tl.constexpr):
    """Sides of CHUNK boxes, and which of them are real and have a location between the tile's corners inside."""
    left, top, right, bottom = corners
    o_row = o_chunk + tl.arange(0, CHUNK)
    o_value = o_row.to(tl.int64)[:, None] * 4 + tl.arange(0, 4)[None, :]
    b_boxes = tl.load(p_boxes + o_value, mask=(o_row < end)[:, None], other=0.0)
    b_x, b_y = tl.split(tl.reshape(b_boxes, [CHUNK, 2, 2]))
    b_x0, b_x1 = tl.split(b_x)
    b_y0, b_y1 = tl.split(b_y)
    infinite = float("inf")
    b_meets = (b_x0 < right) & (b_x1 > left) & (b_y0 < bottom) & (b_y1 > top)
    b_meets = b_meets & (b_x0 < b_x1) & (b_x0 > -infinite) & (b_x1 < infinite)
    b_meets = b_meets & (b_y0 < b_y1) & (b_y0 > -infinite) & (b_y1 < infinite)
    return b_x0, b_y0, b_x1, b_y1, b_meets


@triton.jit
def load_crowd(p_ignore, o_chunk, end, CHUNK: tl.constexpr):
    """Which of CHUNK boxes are crowds: not 0."""
    o_row = o_chunk + tl.arange(0, CHUNK)
    return tl.load(p_ignore + o_row, mask=o_row < end, other=0)


@triton.jit
def load_box(p_boxes, o_box):
    """The sides of one box."""
    p_box = p_boxes + o_box.to(tl.int64) * 4
    return tl.load(p_box), tl.load(p_box + 1), tl.load(p_box + 2), tl.load(p_box + 3)


@triton.jit
def cut(low, high, half):
    """Ends of the centre square along one axis, cut to the box."""
    centre = (low + high) * 0.5
    return tl.maximum(centre - half, low), tl.minimum(centre + half, high)


@triton.jit
def fits(at, low, high, lower, upper, half, SAMPLED: tl.constexpr, INCLUSIVE: tl.constexpr):
    """Along one axis: between the ends and no side too long; a side long enough."""
    b_far = tl.maximum(at - low, high - at)
    if SAMPLED:
        low, high = cut(low, high, half)
    b_fits = (at > low) & (at < high)
    if INCLUSIVE:
        return b_fits & (b_far <= upper), b_far >= lower
    else:
        return b_fits & (b_far < upper), b_far > lower


@triton.jit
def bits(m_set, CHUNK: tl.constexpr):
    """Bit i is set where m_set[i] is."""
    b_bit = tl.full([CHUNK], 1, tl.uint32) << tl.arange(0, CHUNK).to(tl.uint32)
    return tl.sum(tl.where(m_set, b_bit, 0), axis=0)


@triton.jit
def position(bit):
    """Which power of two: the exponent of the float."""
    return (bit.to(tl.float32).to(tl.int32, bitcast=True) >> 23) - 127
