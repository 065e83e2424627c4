"""The Triton kernels that suppress, for `nms` and `batched_nms`: all images at once, and nothing waits for the GPU.

Boxes come by descending score, image after image. They are worked off a chunk of an image at a time, a small one first,
with which most images have their `max_per_image`; two launches a chunk:

1. `_nms_mask_kernel`, a tile of ROWS x COLUMNS pairs a program, a word of 32 columns at a time. Boxes kept of earlier
   chunks are held against those of this one, which they strike out (bits set atomically; or-ing has no order). Those
   of this chunk are held against each other, on and above the diagonal, and leave a mask: bit j of a row says that it
   would suppress box j.
2. `_nms_sweep_kernel`, a program an image, goes through this mask by words of 32 boxes. Who is kept within a word
   follows by rounds: those not suppressed suppress, until nothing changes. The first t rows are right after t rounds,
   and what no longer changes is the greedy result. Then the rows kept are or-ed into what is struck out, and written,
   as positions for the next chunk and as what was asked for.

Programs end at once past the image's count, which only the device knows, and when an image has as many boxes as are
wanted. The mask takes at most CHUNK^2 / 8 bytes an image, however many candidates there are. Pairs of boxes that are
not kept are computed within a chunk alone.

The IoU is rounded to float32 after every step, as on the CPU: products are not fused with sums (`enable_fp_fusion`).
"""

# Arguments of the functions under triton.jit have Triton's types, given at the launch.
# mypy: allow-untyped-defs

import triton
import triton.language as tl

from fcos_kernels.nms.triton_order import BITS


@triton.jit
def _load_boxes(p_boxes, o_box, m_box):
    """Sides and area of the boxes at `o_box`."""
    p_box = p_boxes + o_box * 4
    b_x0 = tl.load(p_box, mask=m_box, other=0.0)
    b_y0 = tl.load(p_box + 1, mask=m_box, other=0.0)
    b_x1 = tl.load(p_box + 2, mask=m_box, other=0.0)
    b_y1 = tl.load(p_box + 3, mask=m_box, other=0.0)
    return b_x0, b_y0, b_x1, b_y1, (b_x1 - b_x0) * (b_y1 - b_y0)


@triton.jit(do_not_specialize=["width", "first", "most", "kept_tiles", "words", "height"])
def _nms_mask_kernel(
    p_boxes,
    p_classes,
    p_begins,
    p_counts,
    p_kept,
    p_number,
    p_struck,
    p_mask,
    width,
    first,
    most,
    kept_tiles,
    words,
    height,
    threshold,
    CHUNK: tl.constexpr,
    ROWS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """A tile of pairs: of kept boxes (the first `kept_tiles`) or boxes of this chunk, and of boxes of this chunk.

    `p_struck` has `words` words an image, `p_mask` `height` rows of CHUNK bits. Images begin at `p_begins`, or, without
    it, every `width` boxes.
    """
    image = tl.program_id(0).to(tl.int64)
    tile = tl.program_id(2)
    number = tl.load(p_number + image)
    count = tl.load(p_counts + image).to(tl.int32)
    column0 = first + tl.program_id(1) * COLUMNS
    earlier = tile < kept_tiles
    row0 = tl.where(earlier, tile * ROWS, (tile - kept_tiles) * ROWS + first)
    last = tl.minimum(column0 + COLUMNS, count) - 1
    needed = tl.where(earlier, row0 < number, row0 <= last)
    if needed & (column0 < count) & (number < most):
        b_row = row0 + tl.arange(0, ROWS)
        m_row = b_row < tl.where(earlier, number, count)
        if earlier:
            b_row = tl.load(p_kept + image * most + b_row, mask=m_row, other=0).to(tl.int32)
        begin = image * width
        if p_begins is not None:
            begin = tl.load(p_begins + image)
        r_x0, r_y0, r_x1, r_y1, r_area = _load_boxes(p_boxes, (begin + b_row)[:, None], m_row[:, None])
        r_class = tl.load(p_classes + (begin + b_row)[:, None], mask=m_row[:, None], other=0)
        o_row = (image * height + (b_row - first)) * (CHUNK // BITS)
        o_bit = tl.arange(0, BITS)
        while column0 <= last:
            b_column = column0 + o_bit
            m_column = b_column < count
            c_x0, c_y0, c_x1, c_y1, c_area = _load_boxes(p_boxes, (begin + b_column)[None, :], m_column[None, :])
            c_class = tl.load(p_classes + (begin + b_column)[None, :], mask=m_column[None, :], other=0)
            b_width = tl.maximum(tl.minimum(r_x1, c_x1) - tl.maximum(r_x0, c_x0), 0.0)
            b_shared = b_width * tl.maximum(tl.minimum(r_y1, c_y1) - tl.maximum(r_y0, c_y0), 0.0)
            # NaN sides make a NaN area, and with it no comparison is true
            b_hit = (tl.div_rn(b_shared, r_area + c_area - b_shared) > threshold) & (r_class == c_class)
            b_hit = b_hit & m_row[:, None] & m_column[None, :] & (b_column[None, :] > b_row[:, None])
            b_words = tl.sum(b_hit.to(tl.int32) << o_bit[None, :], axis=1)
            if earlier:
                struck = tl.reduce_or(b_words, axis=0)
                if struck != 0:
                    tl.atomic_or(p_struck + image * words + column0 // BITS, struck, sem="relaxed")
            else:
                tl.store(p_mask + o_row + (column0 - first) // BITS, b_words, mask=m_row)
            column0 += BITS


@triton.jit(do_not_specialize=["width", "first", "most", "words", "height"])
def _nms_sweep_kernel(
    p_counts,
    p_kept,
    p_number,
    p_struck,
    p_mask,
    p_order,
    p_rows,
    p_packed,
    p_boxes,
    p_scores,
    p_columns,
    width,
    first,
    most,
    words,
    height,
    CHUNK: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Appends the boxes kept of the image's chunk that begins at `first`.

    Where there are `p_rows` (int64) or `p_packed` (int32, bits of box and score, then COLUMNS columns), also the rows
    that `p_order` has for them, or these rows' boxes, scores and `p_columns`, int32 [N, width] each.
    """
    WORDS: tl.constexpr = CHUNK // BITS
    image = tl.program_id(0).to(tl.int64)
    number = tl.load(p_number + image)
    count = tl.minimum(tl.load(p_counts + image).to(tl.int32) - first, CHUNK)
    o_word, o_bit = tl.arange(0, WORDS), tl.arange(0, BITS)
    m_word = o_word * BITS < count
    b_struck = tl.load(p_struck + image * words + first // BITS + o_word, mask=m_word, other=0)
    word = 0
    while (word * BITS < count) & (number < most):
        struck = tl.sum(tl.where(o_word == word, b_struck, 0), axis=0)
        m_open = (word * BITS + o_bit < count) & (((struck >> o_bit) & 1) == 0)
        p_row = p_mask + (image * height + word * BITS + o_bit) * WORDS
        b_own = tl.load(p_row + word, mask=m_open, other=0)
        suppressed = tl.cast(0, tl.int32)
        again = 1
        while again != 0:
            m_kept = m_open & (((suppressed >> o_bit) & 1) == 0)
            now_suppressed = tl.reduce_or(tl.where(m_kept, b_own, 0), axis=0)
            again = tl.where(now_suppressed != suppressed, 1, 0)
            suppressed = now_suppressed
        m_kept = m_open & (((suppressed >> o_bit) & 1) == 0)
        m_later = m_kept[:, None] & (o_word > word)[None, :] & m_word[None, :]
        b_struck |= tl.reduce_or(tl.load(p_row[:, None] + o_word[None, :], mask=m_later, other=0), axis=0)
        b_kept = m_kept.to(tl.int32)
        b_place = number + tl.cumsum(b_kept, axis=0) - 1
        b_box = (first + word * BITS + o_bit).to(tl.int64)
        m_out = m_kept & (b_place < most)
        tl.store(p_kept + image * most + b_place, b_box, mask=m_out)
        if p_order is not None:
            b_row = image * width + tl.load(p_order + image * width + b_box, mask=m_out, other=0)
            if p_rows is not None:
                tl.store(p_rows + image * most + b_place, b_row - image * width, mask=m_out)
            else:
                p_out = p_packed + (image * most + b_place) * (5 + COLUMNS)
                for side in tl.static_range(4):
                    b_side = tl.load(p_boxes + b_row * 4 + side, mask=m_out, other=0.0)
                    tl.store(p_out + side, b_side.to(tl.int32, bitcast=True), mask=m_out)
                b_score = tl.load(p_scores + b_row, mask=m_out, other=0.0)
                tl.store(p_out + 4, b_score.to(tl.int32, bitcast=True), mask=m_out)
                for column in tl.static_range(COLUMNS):
                    tl.store(p_out + 5 + column, tl.load(p_columns[column] + b_row, mask=m_out, other=0), mask=m_out)
        number = tl.minimum(number + tl.sum(b_kept, axis=0), most)
        word += 1
    tl.store(p_number + image, number)
