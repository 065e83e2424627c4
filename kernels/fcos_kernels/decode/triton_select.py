"""Triton kernels that pick the best keys of every level and image, and that make boxes of them.

Selection is by digits of 8 bits, the highest first: a histogram of the keys that begin with the digits known so far
tells the next digit of the last key that is wanted. It ends as soon as all keys that share these digits are wanted:
after three digits or four, but for ties. Keys differ, so it always ends with just as many as are wanted. A program has
all keys of one level of one image. Where more logits reached the threshold than its region has room for, it makes the
keys again, of all logits, as often as it looks at them: slow, and the same result.
"""

# mypy: allow-untyped-defs
import triton
import triton.language as tl

from fcos_kernels.common.triton_levels import at, level_of
from fcos_kernels.common.triton_sort import descending
from fcos_kernels.decode.triton_scan import LAST_PLACE, distances, key_at, quality, score_of, sigmoid

BINS = tl.constexpr(256)


@triton.jit(do_not_specialize=["row", "wide"])
def _decode_select_kernel(
    p_logits,
    p_boxes_out,
    p_qualities,
    p_scales,
    p_keys,
    p_found,
    p_chosen,
    levels,
    row,
    wide,
    threshold,
    LEVELS: tl.constexpr,
    CLASSES: tl.constexpr,
    LAST: tl.constexpr,
    BOXES_LAST: tl.constexpr,
    FROM_BOX: tl.constexpr,
    EXP: tl.constexpr,
    ON_SCORE: tl.constexpr,
    RANK_BY_SCORE: tl.constexpr,
    ROOT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes the keys chosen of each level and image, in no order of value, and zeros after them up to `wide`."""
    cells, region, room, most = levels
    level, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    count = tl.load(p_found + image * LEVELS + level)
    last = tl.cast(at(room, level, LEVELS), tl.int32)
    p_own = p_keys + image * tl.cast(row, tl.int64) + tl.cast(at(region, level, LEVELS), tl.int32)
    p_out = p_chosen + (image * LEVELS + level) * wide
    wanted = tl.cast(at(most, level, LEVELS), tl.int32)
    own = tl.cast(at(cells, level, LEVELS), tl.int32)
    p_x = at(p_logits, level, LEVELS) + image * own * CLASSES
    crowded = count > last
    if crowded:
        count = own * CLASSES
    done = _choose(
        p_own, crowded, p_x, p_boxes_out, p_qualities, p_scales, p_out, level, image, own, count, wanted, threshold,
        LEVELS, CLASSES, LAST, BOXES_LAST, FROM_BOX, EXP, ON_SCORE, RANK_BY_SCORE, ROOT, BLOCK,
    )  # fmt: skip
    while done < wide:
        o_rest = done + tl.arange(0, BLOCK)
        tl.store(p_out + o_rest, tl.zeros([BLOCK], tl.int64), mask=o_rest < wide)
        done += BLOCK


@triton.jit
def _choose(
    p_own,
    crowded,
    p_x,
    p_boxes_out,
    p_qualities,
    p_scales,
    p_out,
    level,
    image,
    cells,
    count,
    wanted,
    threshold,
    LEVELS: tl.constexpr,
    CLASSES: tl.constexpr,
    LAST: tl.constexpr,
    BOXES_LAST: tl.constexpr,
    FROM_BOX: tl.constexpr,
    EXP: tl.constexpr,
    ON_SCORE: tl.constexpr,
    RANK_BY_SCORE: tl.constexpr,
    ROOT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Writes the best `wanted` of `count` keys, or of those of `count` logits where `crowded`; returns how many."""
    cut = tl.cast(1, tl.int64)
    shift = tl.cast(56, tl.int32)
    if count <= wanted:
        shift = tl.cast(-8, tl.int32)
    digits = tl.cast(0, tl.int64)
    left = wanted
    done = 0
    # the last round writes, those before it find a digit each
    searching = 1
    while searching >= 0:
        searching = tl.where(shift >= 0, 1, 0)
        b_bins = tl.zeros([BINS], tl.int32)
        o_block = 0
        while o_block < count:
            o_key = o_block + tl.arange(0, BLOCK)
            m_key = o_key < count
            b_key = tl.zeros([BLOCK], tl.int64)
            if crowded:
                b_key = key_at(
                    p_x, p_boxes_out, p_qualities, p_scales, level, image, o_key, m_key, cells, threshold,
                    LEVELS, CLASSES, LAST, BOXES_LAST, FROM_BOX, EXP, ON_SCORE, RANK_BY_SCORE, ROOT,
                )  # fmt: skip
            else:
                b_key = tl.load(p_own + o_key, mask=m_key, other=0)
            if searching == 1:
                b_begin = b_key >> tl.maximum(shift, 0)
                m_key = (b_key > 0) & ((b_begin >> 8) == digits)
                b_bins += tl.histogram((b_begin & 255).to(tl.int32), BINS, mask=m_key)
            else:
                m_key = b_key >= cut
                b_place = done + tl.cumsum(m_key.to(tl.int32), axis=0) - 1
                tl.store(p_out + b_place, b_key, mask=m_key)
                done += tl.sum(m_key.to(tl.int32), axis=0)
            o_block += BLOCK
        if searching == 1:
            b_from = tl.cumsum(b_bins, axis=0, reverse=True)
            if tl.max(b_from, axis=0) <= left:
                # only of the first digit: few keys are above 0
                shift = tl.cast(-8, tl.int32)
            else:
                m_enough = b_from >= left
                digit = tl.sum(m_enough.to(tl.int32), axis=0) - 1
                above = tl.max(tl.where(m_enough, 0, b_from), axis=0)
                here = tl.min(tl.where(m_enough, b_from, count), axis=0) - above
                digits = digits * 256 + digit
                cut = tl.maximum(digits << shift, 1)
                left -= above
                shift = tl.where(here == left, -8, shift - 8)
        else:
            searching = -1
    return done


@triton.jit(do_not_specialize=["wide", "columns_all"])
def _decode_boxes_kernel(
    p_chosen,
    p_logits,
    p_boxes_out,
    p_qualities,
    p_scales,
    p_sizes,
    p_boxes,
    p_scores,
    p_labels,
    p_levels,
    p_locations,
    levels,
    wide,
    columns_all,
    LEVELS: tl.constexpr,
    CLASSES: tl.constexpr,
    LAST: tl.constexpr,
    BOXES_LAST: tl.constexpr,
    FROM_BOX: tl.constexpr,
    EXP: tl.constexpr,
    ROOT: tl.constexpr,
    SORT: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """BLOCK rows of one level of one image. `p_chosen` int64 [N, LEVELS, wide]: keys in order, zeros after them.

    Where SORT they are in no order, and BLOCK rows are all that a level has.
    """
    cells, first, block_first, most, out_first, columns, stride, start, unit = levels
    program, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    level = level_of(block_first, program, LEVELS)
    o_place = (program - tl.cast(at(block_first, level, LEVELS), tl.int32)) * BLOCK + tl.arange(0, BLOCK)
    m_row = o_place < tl.cast(at(most, level, LEVELS), tl.int32)
    b_key = tl.load(p_chosen + (image * LEVELS + level) * wide + o_place, mask=m_row, other=0)
    if SORT:
        b_key = descending(b_key, BLOCK)
    m_key = b_key > 0
    o_pair = tl.where(m_key, (b_key & LAST_PLACE).to(tl.int32) ^ LAST_PLACE, 0)
    o_cell = o_pair // CLASSES
    b_label = o_pair - o_cell * CLASSES

    own = tl.cast(at(cells, level, LEVELS), tl.int32)
    o_x = o_pair if LAST else b_label * own + o_cell
    p_x = at(p_logits, level, LEVELS) + image * CLASSES * own
    b_p = sigmoid(tl.load(p_x + o_x, mask=m_key, other=0.0).to(tl.float32))
    b_quality = quality(
        p_boxes_out, p_qualities, p_scales, level, image, o_cell, own, m_key, LEVELS, BOXES_LAST, FROM_BOX, EXP
    )
    b_score = score_of(b_p * b_quality, ROOT)
    b_l, b_t, b_r, b_b = distances(p_boxes_out, p_scales, level, image, o_cell, own, m_key, LEVELS, BOXES_LAST, EXP)
    across = tl.cast(at(columns, level, LEVELS), tl.int32)
    o_line = o_cell // across
    b_x = at(start, level, LEVELS) + (o_cell - o_line * across).to(tl.float32) * at(stride, level, LEVELS)
    b_y = at(start, level, LEVELS) + o_line.to(tl.float32) * at(stride, level, LEVELS)
    pixels = at(unit, level, LEVELS)
    height = tl.load(p_sizes + image * 2).to(tl.float32)
    width = tl.load(p_sizes + image * 2 + 1).to(tl.float32)

    o_row = image * columns_all + tl.cast(at(out_first, level, LEVELS), tl.int32) + o_place
    p_box = p_boxes + o_row * 4
    tl.store(p_box, tl.where(m_key, _clip(b_x - b_l * pixels, width), 0.0), mask=m_row)
    tl.store(p_box + 1, tl.where(m_key, _clip(b_y - b_t * pixels, height), 0.0), mask=m_row)
    tl.store(p_box + 2, tl.where(m_key, _clip(b_x + b_r * pixels, width), 0.0), mask=m_row)
    tl.store(p_box + 3, tl.where(m_key, _clip(b_y + b_b * pixels, height), 0.0), mask=m_row)
    tl.store(p_scores + o_row, tl.where(m_key, b_score, -1.0), mask=m_row)
    tl.store(p_labels + o_row, b_label, mask=m_row)
    tl.store(p_levels + o_row, tl.zeros([BLOCK], tl.int32) + level, mask=m_row)
    b_location = tl.cast(at(first, level, LEVELS), tl.int32) + o_cell
    tl.store(p_locations + o_row, tl.where(m_key, b_location, 0), mask=m_row)


@triton.jit
def _clip(b_x, limit):
    """Into 0 .. limit; NaN stays NaN."""
    b_floored = tl.where(b_x < 0, 0.0, b_x)
    return tl.where(b_floored > limit, limit, b_floored)
