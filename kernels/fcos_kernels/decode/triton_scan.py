"""The Triton kernel that finds the candidates of `decode_padded` among the logits of all levels and images at once.

A program has TILE logits of one level of one image, in the order in which they lie in memory: contiguous ones by class,
then location, channels-last ones by location, then class. It holds them against one number. Those that reach it are
few: they become a bit each, a word for 32 logits, and everything else is computed for the lowest bit of every word at
once, then for the next one, until none is left. Each leaves a key in the region of its level and image, in any order:
one atomic addition a program says where.

A key is a whole number above 0, the larger the better, no two of a level alike: the bits of the rank (a float32 that is
not negative orders like its bits), and below them 2^31 - 1 less (location C + class). It is 0 where the logit was
within the margin, or its score was too low. A region has room for an eighth of a level's logits; what finds no room is
counted, and not written.
"""

# mypy: allow-untyped-defs
import triton
import triton.language as tl

from fcos_kernels.common.triton_constants import LOG2_E, MAX_DISTANCE, MAX_EXPONENT
from fcos_kernels.common.triton_levels import at, level_of

LOG2_E_REST = tl.constexpr(1.92596298909109e-08)
"""What float32 loses of LOG2_E."""
LN_2 = tl.constexpr(0.6931471805599453)
LOWEST = tl.constexpr(-88.72)
"""The sigmoid is no float32 below: exp(-x) is infinite."""
LAST_PLACE = tl.constexpr(0x7FFFFFFF)


BITS = tl.constexpr(32)


@triton.jit(do_not_specialize=["row"])
def _decode_scan_kernel(
    p_logits,
    p_boxes_out,
    p_qualities,
    p_scales,
    p_keys,
    p_found,
    levels,
    row,
    lowest,
    threshold,
    LEVELS: tl.constexpr,
    CLASSES: tl.constexpr,
    LAST: tl.constexpr,
    BOXES_LAST: tl.constexpr,
    WIDE: tl.constexpr,
    FROM_BOX: tl.constexpr,
    EXP: tl.constexpr,
    ON_SCORE: tl.constexpr,
    RANK_BY_SCORE: tl.constexpr,
    ROOT: tl.constexpr,
    TILE: tl.constexpr,
):
    """`p_keys` int64 [N, row], a region a level; `p_found` int32 [N, LEVELS], 0 before: logits that reach `lowest`."""
    cells, tile_first, region, room = levels
    tile, image = tl.program_id(0), tl.program_id(1).to(tl.int64)
    level = level_of(tile_first, tile, LEVELS)
    block = tile - tl.cast(at(tile_first, level, LEVELS), tl.int32)
    own = tl.cast(at(cells, level, LEVELS), tl.int32)
    p_x = at(p_logits, level, LEVELS) + image * own * CLASSES
    b_words, count = _reaching(p_x, own * CLASSES, block, lowest, WIDE, TILE)
    if count > 0:
        place = tl.atomic_add(p_found + image * LEVELS + level, count, sem="relaxed")
        p_own = p_keys + image * tl.cast(row, tl.int64) + tl.cast(at(region, level, LEVELS), tl.int32)
        last = tl.cast(at(room, level, LEVELS), tl.int32)
        end = place + count
        o_word = block * TILE + tl.arange(0, TILE // BITS) * BITS
        while place < end:
            m_x = b_words != 0
            b_low = b_words & -b_words
            b_words = b_words ^ b_low
            # the exponent of a power of two is its place
            b_bit = ((b_low.to(tl.float32).to(tl.int32, bitcast=True) >> 23) & 255) - 127
            b_key = key_at(
                p_x, p_boxes_out, p_qualities, p_scales, level, image, tl.where(m_x, o_word + b_bit, 0), m_x, own,
                threshold, LEVELS, CLASSES, LAST, BOXES_LAST, FROM_BOX, EXP, ON_SCORE, RANK_BY_SCORE, ROOT,
            )  # fmt: skip
            b_place = place + tl.cumsum(m_x.to(tl.int32), axis=0) - 1
            tl.store(p_own + b_place, b_key, mask=m_x & (b_place < last))
            place += tl.sum(m_x.to(tl.int32), axis=0)


@triton.jit
def _reaching(p_x, size, block, lowest, WIDE: tl.constexpr, TILE: tl.constexpr):
    """Bits, a word for BITS logits of a block of an image's `size`: which reach `lowest`, NaN does not; their number.

    Images that are multiples of WIDE logits have a branch of their own: a compiler that knows it makes wide loads.
    """
    o_bit = tl.arange(0, BITS)[None, :]
    o_x = block * TILE + tl.arange(0, TILE // BITS)[:, None] * BITS + o_bit
    b_x = tl.zeros([TILE // BITS, BITS], tl.float32)
    if size % WIDE == 0:
        b_x = tl.load(p_x + o_x, mask=o_x < size // WIDE * WIDE, other=-float("inf")).to(tl.float32)
    else:
        b_x = tl.load(p_x + o_x, mask=o_x < size, other=-float("inf")).to(tl.float32)
    m_x = ((b_x >= lowest) & (o_x < size)).to(tl.int32)
    return tl.sum(m_x << o_bit, axis=1), tl.sum(tl.sum(m_x, axis=1), axis=0)


@triton.jit
def key_at(
    p_x,
    p_boxes_out,
    p_qualities,
    p_scales,
    level,
    image,
    o_x,
    m_x,
    cells,
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
):
    """Keys of the logits that lie at `o_x` in their image, which begins at `p_x`; 0 where they are no candidates."""
    if LAST:
        o_cell = o_x // CLASSES
        b_label = o_x - o_cell * CLASSES
    else:
        b_label = o_x // cells
        o_cell = o_x - b_label * cells
    b_p = sigmoid(tl.load(p_x + o_x, mask=m_x, other=-float("inf")).to(tl.float32))
    b_product = b_p * quality(
        p_boxes_out, p_qualities, p_scales, level, image, o_cell, cells, m_x, LEVELS, BOXES_LAST, FROM_BOX, EXP
    )
    b_passes = b_p > threshold
    if ON_SCORE:
        b_passes = score_of(b_product, ROOT) > threshold
    b_rank = b_p
    if RANK_BY_SCORE:
        b_rank = b_product
    b_bits = b_rank.to(tl.int32, bitcast=True) & LAST_PLACE
    b_key = (b_bits.to(tl.int64) << 32) | ((o_cell * CLASSES + b_label) ^ LAST_PLACE).to(tl.int64)
    return tl.where(m_x & b_passes, b_key, 0)


@triton.jit
def quality(
    p_boxes_out,
    p_qualities,
    p_scales,
    level,
    image,
    o_cell,
    cells,
    m_cell,
    LEVELS: tl.constexpr,
    BOXES_LAST: tl.constexpr,
    FROM_BOX: tl.constexpr,
    EXP: tl.constexpr,
):
    """Of the branch where there is one, else the predicted box's centre-ness, else 1."""
    if p_qualities is not None:
        p_quality = at(p_qualities, level, LEVELS) + image * cells
        b_quality = sigmoid(tl.load(p_quality + o_cell, mask=m_cell, other=0.0).to(tl.float32))
    elif FROM_BOX:
        b_l, b_t, b_r, b_b = distances(
            p_boxes_out, p_scales, level, image, o_cell, cells, m_cell, LEVELS, BOXES_LAST, EXP
        )
        b_across = tl.div_rn(tl.minimum(b_l, b_r), tl.maximum(b_l, b_r))
        b_ratio = b_across * tl.div_rn(tl.minimum(b_t, b_b), tl.maximum(b_t, b_b))
        # 0 / 0 is no number, and not above 0
        b_quality = tl.sqrt_rn(tl.where(b_ratio > 0, tl.minimum(b_ratio, 1.0), 0.0))
    else:
        b_quality = tl.full(o_cell.shape, 1.0, tl.float32)
    return b_quality


@triton.jit
def distances(
    p_boxes_out,
    p_scales,
    level,
    image,
    o_cell,
    cells,
    m_cell,
    LEVELS: tl.constexpr,
    BOXES_LAST: tl.constexpr,
    EXP: tl.constexpr,
):
    """Predicted l, t, r, b in units; of no number none is made."""
    scale = tl.load(p_scales + level).to(tl.float32)
    if BOXES_LAST:
        o_l, step = o_cell * 4, 1
    else:
        o_l, step = o_cell, cells
    p_l = at(p_boxes_out, level, LEVELS) + image * 4 * cells + o_l
    b_l = _activate(tl.load(p_l, mask=m_cell, other=0.0).to(tl.float32) * scale, EXP)
    b_t = _activate(tl.load(p_l + step, mask=m_cell, other=0.0).to(tl.float32) * scale, EXP)
    b_r = _activate(tl.load(p_l + 2 * step, mask=m_cell, other=0.0).to(tl.float32) * scale, EXP)
    b_b = _activate(tl.load(p_l + 3 * step, mask=m_cell, other=0.0).to(tl.float32) * scale, EXP)
    return b_l, b_t, b_r, b_b


@triton.jit
def _activate(b_x, EXP: tl.constexpr):
    if EXP:
        b_distance = tl.where(b_x != b_x, b_x, _exp(b_x, MAX_EXPONENT))
    else:
        # comparisons, as minimum and maximum of a GPU pass no number over
        b_floored = tl.where(b_x < 0, 0.0, b_x)
        b_distance = tl.where(b_floored > MAX_DISTANCE, MAX_DISTANCE, b_floored)
    return b_distance


@triton.jit
def sigmoid(b_x):
    """1 / (1 + exp(-x)) in float32, 2^-23 near; NaN stays NaN."""
    b_p = tl.where(b_x < LOWEST, 0.0, tl.div_rn(1.0, 1.0 + _exp(-b_x, -LOWEST)))
    return tl.where(b_x != b_x, b_x, b_p)


@triton.jit
def _exp(b_x, MOST: tl.constexpr):
    """exp(min(x, MOST)), also for infinities, 2^-24 near: 2^x of a GPU, with what x log2(e) loses in rounding."""
    b_x = tl.minimum(tl.maximum(b_x, -120.0), MOST)
    b_whole = b_x * LOG2_E
    b_rest = tl.fma(b_x, LOG2_E_REST, tl.fma(b_x, LOG2_E, -b_whole))
    return tl.exp2(b_whole) * tl.fma(b_rest, LN_2, 1.0)


@triton.jit
def score_of(b_product, ROOT: tl.constexpr):
    if ROOT:
        b_product = tl.sqrt_rn(b_product)
    return b_product
