"""The Triton kernels of `assign`: all images and levels of a batch in one launch, a second one to add up.

A program has a tile of cells of one level of one image. It reads the image's boxes CHUNK at a time, a lane each, and
finds those that can have a cell of the tile at all: their square meets the tile, and their size fits the level's
range. Only these are compared with the cells, one after another. What is kept for each cell: the smallest area so far
and its row. Boxes cost L / (TILE_H TILE_W CHUNK) each, and a comparison for each tile they reach.

Decisions are those of the plain formula in float32, fused multiply-adds or not: `triton_match.py` says why, and
an area is a product that nothing is added to. What lets a tile skip a box is exact, too. Rounding is monotone, so a
cell inside a box of width w and height h (as rounded) has max(l, t, r, b) between max(w, h) / 2 and max(w, h).
"""

# mypy: allow-untyped-defs
import triton
import triton.language as tl

from fcos_kernels.assign.triton_match import bits, cut, find_level, fits, load_box, load_chunk, load_crowd, position

BACKGROUND: tl.constexpr = tl.constexpr(-1)
IGNORED: tl.constexpr = tl.constexpr(-2)
# As a whole number above the bits of every float32 area, infinite ones included.
NO_AREA: tl.constexpr = tl.constexpr(0x7FFFFFFF)


@triton.jit(do_not_specialize=["boxes", "tiles", "locations"])
def _assign_fwd_kernel(
    p_boxes,
    p_offsets,
    p_ignore,
    p_index,
    p_candidates,
    p_parts,
    levels,
    boxes,
    tiles,
    locations,
    LEVELS: tl.constexpr,
    SAMPLED: tl.constexpr,
    INCLUSIVE: tl.constexpr,
    COUNTED: tl.constexpr,
    TILE_H: tl.constexpr,
    TILE_W: tl.constexpr,
    CHUNK: tl.constexpr,
):
    image = tl.program_id(0) // tiles
    o_image = image.to(tl.int64)
    # Offsets that do not ascend must not lead out of the boxes; nobody has looked at them on the host.
    begin = tl.minimum(tl.maximum(tl.load(p_offsets + o_image), 0), boxes).to(tl.int32)
    end = tl.minimum(tl.maximum(tl.load(p_offsets + o_image + 1), 0), boxes).to(tl.int32)

    tile = tl.program_id(0) - image * tiles
    first, rows, columns, stride, start, lower, upper, half, tile = find_level(levels, tile, LEVELS, TILE_H, TILE_W)
    across = tl.cdiv(columns, TILE_W)
    row0 = tile // across * TILE_H
    column0 = tile % across * TILE_W
    row = row0 + tl.arange(0, TILE_H)[:, None]
    column = column0 + tl.arange(0, TILE_W)[None, :]
    x = start + column.to(tl.float32) * stride
    y = start + row.to(tl.float32) * stride
    left = start + column0.to(tl.float32) * stride
    top = start + row0.to(tl.float32) * stride
    right = start + (tl.minimum(column0 + TILE_W, columns) - 1).to(tl.float32) * stride
    bottom = start + (tl.minimum(row0 + TILE_H, rows) - 1).to(tl.float32) * stride
    corners = left, top, right, bottom

    b_best = tl.full([TILE_H, TILE_W], NO_AREA, tl.int32)
    b_index = tl.full([TILE_H, TILE_W], BACKGROUND, tl.int32)
    b_count = tl.zeros([TILE_H, TILE_W], tl.int32)
    crowds = 0
    o_chunk = begin
    while o_chunk < end:
        b_x0, b_y0, b_x1, b_y1, b_meets = load_chunk(p_boxes, o_chunk, end, corners, CHUNK)
        b_size = tl.maximum(b_x1 - b_x0, b_y1 - b_y0)
        b_may = b_meets & (b_size >= lower) & (b_size * 0.5 <= upper)
        if SAMPLED:
            b_x0, b_x1 = cut(b_x0, b_x1, half)
            b_y0, b_y1 = cut(b_y0, b_y1, half)
            b_may = b_may & (b_x0 < right) & (b_x1 > left) & (b_y0 < bottom) & (b_y1 > top)
        if p_ignore is not None:
            b_crowd = load_crowd(p_ignore, o_chunk, end, CHUNK)
            b_may = b_may & (b_crowd == 0)
            crowds += tl.sum((b_meets & (b_crowd != 0)).to(tl.int32))

        waiting = bits(b_may, CHUNK)
        while waiting != 0:
            rest = waiting & (waiting - 1)
            o_box = o_chunk + position(waiting ^ rest)
            waiting = rest
            x0, y0, x1, y1 = load_box(p_boxes, o_box)
            # Areas are not negative, so that their bits are in the same order.
            area = ((x1 - x0) * (y1 - y0)).to(tl.int32, bitcast=True)
            b_x_fits, b_x_far = fits(x, x0, x1, lower, upper, half, SAMPLED, INCLUSIVE)
            b_y_fits, b_y_far = fits(y, y0, y1, lower, upper, half, SAMPLED, INCLUSIVE)
            b_fits = b_x_fits & b_y_fits & (b_x_far | b_y_far)
            b_better = b_fits & (area < b_best)
            b_best = tl.where(b_better, area, b_best)
            b_index = tl.where(b_better, o_box, b_index)
            if COUNTED:
                b_count += b_fits.to(tl.int32)
        o_chunk += CHUNK

    if p_ignore is not None:
        b_index = _ignore_crowds(b_index, crowds, p_boxes, p_ignore, begin, end, x, y, corners, CHUNK)

    m_cell = (row < rows) & (column < columns)
    o_cell = row * columns + column
    tl.store(p_index + (o_image * locations + first) + o_cell, b_index, mask=m_cell)
    if COUNTED:
        tl.store(p_candidates + (o_image * locations + first) + o_cell, b_count, mask=m_cell)

    m_positive = m_cell & (b_index >= 0)
    # In float32: a sum of whole numbers would become a count of bits, for which Triton 3.8 puts a byte on the stack.
    positives = tl.sum(tl.sum(m_positive.to(tl.float32), axis=0), axis=0)
    total = 0.0
    if positives > 0:
        p_own = p_boxes + tl.where(m_positive, b_index, 0).to(tl.int64) * 4
        b_l = x - tl.load(p_own, mask=m_positive, other=0.0)
        b_t = y - tl.load(p_own + 1, mask=m_positive, other=0.0)
        b_r = tl.load(p_own + 2, mask=m_positive, other=0.0) - x
        b_b = tl.load(p_own + 3, mask=m_positive, other=0.0) - y
        b_ratio = tl.div_rn(tl.minimum(b_l, b_r), tl.maximum(b_l, b_r))
        b_ratio *= tl.div_rn(tl.minimum(b_t, b_b), tl.maximum(b_t, b_b))
        b_center = tl.sqrt_rn(tl.where(m_positive, b_ratio, 0.0))
        total = tl.sum(tl.sum(b_center, axis=0), axis=0)
    p_part = p_parts + tl.program_id(0).to(tl.int64) * 2
    tl.store(p_part, positives)
    tl.store(p_part + 1, total)


@triton.jit
def _ignore_crowds(b_index, crowds, p_boxes, p_ignore, begin, end, x, y, corners, CHUNK: tl.constexpr):
    """`b_index`, with background turned to IGNORED inside a crowd and inside no other box."""
    if crowds > 0:
        b_cover = tl.zeros(b_index.shape, tl.int32)
        o_chunk = begin
        while o_chunk < end:
            _, _, _, _, b_meets = load_chunk(p_boxes, o_chunk, end, corners, CHUNK)
            waiting = bits(b_meets, CHUNK)
            while waiting != 0:
                rest = waiting & (waiting - 1)
                o_box = o_chunk + position(waiting ^ rest)
                waiting = rest
                x0, y0, x1, y1 = load_box(p_boxes, o_box)
                kind = tl.where(tl.load(p_ignore + o_box) != 0, 1, 2)
                b_inside = (x > x0) & (x < x1) & (y > y0) & (y < y1)
                b_cover = tl.maximum(b_cover, tl.where(b_inside, kind, 0))
            o_chunk += CHUNK
        b_index = tl.where((b_index == BACKGROUND) & (b_cover == 1), IGNORED, b_index)
    return b_index


@triton.jit(do_not_specialize=["parts"])
def _assign_add_kernel(p_parts, p_positives, p_total, parts, BLOCK: tl.constexpr):
    b_positives = tl.zeros([BLOCK], tl.float64)
    b_total = tl.zeros([BLOCK], tl.float64)
    o_block = 0
    while o_block < parts:
        o_part = o_block + tl.arange(0, BLOCK)
        m_part = o_part < parts
        p_part = p_parts + o_part.to(tl.int64) * 2
        b_positives += tl.load(p_part, mask=m_part, other=0.0)
        b_total += tl.load(p_part + 1, mask=m_part, other=0.0)
        o_block += BLOCK
    tl.store(p_positives, tl.sum(b_positives, axis=0).to(tl.float32))
    tl.store(p_total, tl.sum(b_total, axis=0).to(tl.float32))
