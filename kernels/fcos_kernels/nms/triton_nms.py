"""The Triton kernels of `nms` and `batched_nms`: all images at once, and nothing waits for the GPU.

Boxes come by descending score, image after image. They are worked off CHUNK of an image at a time, two launches each:

1. `_nms_mask_kernel`, a tile of ROWS x COLUMNS pairs a program, a word of 32 columns at a time. Boxes kept of earlier
   chunks are held against those of this one, which they strike out (bits set atomically; or-ing has no order). Those
   of this chunk are held against each other, on and above the diagonal, and leave a mask: bit j of a row says that it
   would suppress box j.
2. `_nms_sweep_kernel`, a program an image, goes through this mask by words of 32 boxes. Who is kept within a word
   follows by rounds: those not suppressed suppress, until nothing changes. The first t rows are right after t rounds,
   and what no longer changes is the greedy result. Then the rows kept are or-ed into what is struck out.

Programs end at once past the image's count, which only the device knows, and when an image has as many boxes as are
wanted. The mask takes at most CHUNK^2 / 8 bytes an image, however many candidates there are. Pairs of boxes that are
not kept are computed within a chunk alone.

The IoU is rounded to float32 after every step, as on the CPU: products are not fused with sums (`enable_fp_fusion`).
"""

# Arguments of the functions under triton.jit have Triton's types, given at the launch.
# mypy: allow-untyped-defs

import torch
import triton
import triton.language as tl
from torch import Tensor

from fcos_kernels.common.variants import Variant

CHUNK = 2048
"""Boxes of an image worked on by a pair of launches, a power of 2 and a multiple of COLUMNS."""
ROWS, COLUMNS = 64, 128
MASK_WARPS, SWEEP_WARPS = 8, 1
BITS: tl.constexpr = tl.constexpr(32)


@triton.jit
def _load_boxes(p_boxes, o_box, m_box):
    """Sides and area of the boxes at `o_box`."""
    p_box = p_boxes + o_box * 4
    b_x0 = tl.load(p_box, mask=m_box, other=0.0)
    b_y0 = tl.load(p_box + 1, mask=m_box, other=0.0)
    b_x1 = tl.load(p_box + 2, mask=m_box, other=0.0)
    b_y1 = tl.load(p_box + 3, mask=m_box, other=0.0)
    return b_x0, b_y0, b_x1, b_y1, (b_x1 - b_x0) * (b_y1 - b_y0)


@triton.jit(do_not_specialize=["first", "most", "kept_tiles", "words", "height"])
def _nms_mask_kernel(
    p_boxes,
    p_classes,
    p_begins,
    p_counts,
    p_kept,
    p_number,
    p_struck,
    p_mask,
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

    `p_struck` has `words` words an image, `p_mask` `height` rows of CHUNK bits.
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
                    tl.atomic_or(p_struck + image * words + column0 // BITS, struck)
            else:
                tl.store(p_mask + o_row + (column0 - first) // BITS, b_words, mask=m_row)
            column0 += BITS


@triton.jit(do_not_specialize=["first", "most", "words", "height"])
def _nms_sweep_kernel(p_counts, p_kept, p_number, p_struck, p_mask, first, most, words, height, CHUNK: tl.constexpr):
    """Appends the boxes kept of the image's chunk that begins at `first`."""
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
            found = tl.reduce_or(tl.where(m_kept, b_own, 0), axis=0)
            again = tl.where(found != suppressed, 1, 0)
            suppressed = found
        m_kept = m_open & (((suppressed >> o_bit) & 1) == 0)
        m_later = m_kept[:, None] & (o_word > word)[None, :] & m_word[None, :]
        b_struck |= tl.reduce_or(tl.load(p_row[:, None] + o_word[None, :], mask=m_later, other=0), axis=0)
        b_kept = m_kept.to(tl.int32)
        b_place = number + tl.cumsum(b_kept, axis=0) - 1
        b_box = (first + word * BITS + o_bit).to(tl.int64)
        tl.store(p_kept + image * most + b_place, b_box, mask=m_kept & (b_place < most))
        number = tl.minimum(number + tl.sum(b_kept, axis=0), most)
        word += 1
    tl.store(p_number + image, number)


def launch(
    boxes: Tensor, classes: Tensor, begins: Tensor, counts: Tensor, longest: int, threshold: float, most: int
) -> Tensor:
    """Positions kept, among each image's boxes, ascending.

    Args:
        boxes: float32 [T, 4] xyxy, each image's by descending score.
        classes: int64 or int32 [T].
        begins: int64 [N], the first row of each image.
        counts: int64 [N], the rows of each image; at most `longest`.
        longest: bound on the counts, below 4 million (a launch has no more tiles).
        threshold: IoU above which a box suppresses later ones of its class.
        most: columns of the result, the most boxes kept of an image.

    Returns:
        int64 [N, most], -1 where there is none.
    """
    images, words = len(begins), triton.cdiv(longest, BITS.value)
    kept = torch.full((images, most), -1, dtype=torch.int64, device=boxes.device)
    if not kept.numel() or not longest:
        return kept
    # both begin at multiples of 16 bytes: Triton compiles a kernel anew for other pointers
    room = triton.cdiv(images, 4) * 4
    state = torch.zeros(room + images * words, dtype=torch.int32, device=boxes.device)
    number, struck = state[:room], state[room:]
    height = min(CHUNK, longest)
    mask = torch.empty(images * height * (CHUNK // BITS.value), dtype=torch.int32, device=boxes.device)
    boxes, classes = boxes.contiguous(), classes.contiguous()
    with torch.cuda.device_of(boxes):
        for first in range(0, longest, CHUNK):
            width = min(CHUNK, longest - first)
            kept_tiles = triton.cdiv(min(first, most), ROWS)
            _nms_mask_kernel[(images, triton.cdiv(width, COLUMNS), kept_tiles + triton.cdiv(width, ROWS))](
                boxes,
                classes,
                begins,
                counts,
                kept,
                number,
                struck,
                mask,
                first,
                most,
                kept_tiles,
                words,
                height,
                threshold,
                CHUNK=CHUNK,
                ROWS=ROWS,
                COLUMNS=COLUMNS,
                num_warps=MASK_WARPS,
                enable_fp_fusion=False,
            )
            _nms_sweep_kernel[(images,)](
                counts, kept, number, struck, mask, first, most, words, height, CHUNK=CHUNK, num_warps=SWEEP_WARPS
            )
    return kept


def variants() -> list[Variant]:
    """What is launched: classes of 4 bytes and of 8, and the sweep."""
    state = {"p_kept": "*i64", "p_number": "*i32", "p_struck": "*i32", "p_mask": "*i32"}
    numbers = {"first": "i32", "most": "i32"}
    sizes = {"words": "i32", "height": "i32"}
    found = []
    for name, kind in (("(int32 classes)", "*i32"), ("(int64 classes)", "*i64")):
        constants = {"CHUNK": CHUNK, "ROWS": ROWS, "COLUMNS": COLUMNS}
        signature = {"p_boxes": "*fp32", "p_classes": kind, "p_begins": "*i64", "p_counts": "*i64", **state, **numbers}
        signature |= {"kept_tiles": "i32", **sizes, "threshold": "fp32", **dict.fromkeys(constants, "constexpr")}
        aligned = tuple(x for x, kind in signature.items() if kind[0] == "*")
        found.append(Variant(_nms_mask_kernel, name, "float32", signature, constants, aligned, MASK_WARPS, fused=False))
    signature = {"p_counts": "*i64", **state, **numbers, **sizes, "CHUNK": "constexpr"}
    aligned = ("p_counts", *state)
    found.append(Variant(_nms_sweep_kernel, "", "float32", signature, {"CHUNK": CHUNK}, aligned, SWEEP_WARPS))
    return found
