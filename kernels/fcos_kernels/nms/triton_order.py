"""Triton kernels that put each image's boxes in order for `batched_nms`, and everything else in its first state.

A key is a whole number, no two of an image alike: the bits of the score (a float32 that is not negative orders like its
bits; NaN counts as infinite) above 2^31 - 1 - row, so that keys descend as the boxes do, ties by the lower row. Rows
whose score is below 0 have key 0. Runs of RUN keys are sorted, a program each. A key's place in its image is then how
many keys of each run are larger, which a binary search tells for all runs at once.
"""

# mypy: allow-untyped-defs
import triton
import triton.language as tl

from fcos_kernels.common.triton_sort import descending

BITS: tl.constexpr = tl.constexpr(32)
LAST_ROW: tl.constexpr = tl.constexpr(0x7FFFFFFF)


@triton.jit(do_not_specialize=["width"])
def _nms_keys_kernel(p_scores, p_keys, p_sizes, width, RUN: tl.constexpr, SORT: tl.constexpr):
    """Keys [N, runs, RUN] of scores [N, width], each run descending where SORT; boxes of each run [N, runs]."""
    run, runs = tl.program_id(0), tl.num_programs(0)
    image = tl.program_id(1).to(tl.int64)
    o_row = run * RUN + tl.arange(0, RUN)
    b_score = tl.load(p_scores + image * width + o_row, mask=o_row < width, other=-1.0)
    b_score = tl.where(b_score != b_score, float("inf"), b_score)
    b_bits = (b_score.to(tl.int32, bitcast=True) & LAST_ROW).to(tl.int64)
    b_key = tl.where(b_score >= 0, (b_bits << 32) | (o_row ^ LAST_ROW).to(tl.int64), 0)
    tl.store(p_sizes + image * runs + run, tl.sum((b_key > 0).to(tl.int32), axis=0))
    if SORT:
        b_key = descending(b_key, RUN)
    tl.store(p_keys + (image * runs + run) * RUN + tl.arange(0, RUN), b_key)


@triton.jit(do_not_specialize=["width", "sizes", "run", "runs", "words", "most"])
def _nms_merge_kernel(
    p_keys,
    p_sizes,
    p_boxes,
    p_classes,
    p_sorted,
    p_sorted_classes,
    p_order,
    p_counts,
    p_number,
    p_struck,
    p_out,
    width,
    sizes,
    run,
    runs,
    words,
    most,
    RUNS: tl.constexpr,
    STEPS: tl.constexpr,
    COLUMNS: tl.constexpr,
):
    """Boxes, classes and rows in order, of BITS keys; counts, and the state that the suppression begins with.

    `p_keys` int64 [N, runs, run], each run descending, `run` at most 2^STEPS - 1 or 2^STEPS, `runs` at most RUNS;
    `p_sizes` int32 [N, sizes] adds up to an image's boxes; `p_out` [N, most, COLUMNS] is filled with -1.
    """
    program = tl.program_id(0)
    image = tl.program_id(1).to(tl.int64)
    room = run * runs
    o_key = program * BITS + tl.arange(0, BITS)
    b_key = tl.load(p_keys + image * room + o_key, mask=o_key < room, other=0)
    o_run = tl.arange(0, RUNS)
    m_run = (o_run < runs)[None, :]
    p_run = p_keys + image * room + (o_run * run)[None, :]
    b_larger = tl.zeros([BITS, RUNS], tl.int32)
    step = 1 << STEPS
    while step > 0:
        o_probe = b_larger + (step - 1)
        b_probe = tl.load(p_run + o_probe, mask=m_run & (o_probe < run), other=0)
        b_larger += tl.where(b_probe > b_key[:, None], step, 0)
        step = step // 2
    b_place = tl.sum(b_larger, axis=1)
    m_key = b_key > 0
    b_row = tl.where(m_key, (b_key & LAST_ROW).to(tl.int32) ^ LAST_ROW, 0)
    p_from = p_boxes + (image * width + b_row) * 4
    p_to = p_sorted + (image * width + b_place) * 4
    for side in tl.static_range(4):
        tl.store(p_to + side, tl.load(p_from + side, mask=m_key, other=0.0), mask=m_key)
    b_class = tl.load(p_classes + image * width + b_row, mask=m_key, other=0)
    tl.store(p_sorted_classes + image * width + b_place, b_class, mask=m_key)
    tl.store(p_order + image * width + b_place, b_row, mask=m_key)

    if program < words:
        tl.store(p_struck + image * words + program, 0)
    if program == 0:
        tl.store(p_number + image, 0)
        count = 0
        first = 0
        while first < sizes:
            o_size = first + tl.arange(0, BITS)
            count += tl.sum(tl.load(p_sizes + image * sizes + o_size, mask=o_size < sizes, other=0), axis=0)
            first += BITS
        tl.store(p_counts + image, count)
    fill = program * BITS
    while fill < most * COLUMNS:
        o_fill = fill + tl.arange(0, BITS)
        tl.store(p_out + image * most * COLUMNS + o_fill, -1, mask=o_fill < most * COLUMNS)
        fill += tl.num_programs(0) * BITS
