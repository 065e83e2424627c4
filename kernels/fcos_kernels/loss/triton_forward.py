"""The Triton kernels of `detection_loss` and `focal_loss`: all levels, losses and gradients, in one launch; then a sum.

A program has one of two tasks, by its number. Box programs come first: BOX_BLOCK locations of one level of one image;
they write the whole gradient of the box and the quality output, zeros where nothing is learnt. Class programs read
logits once and write their gradient once: of contiguous logits a tile of TILE_C classes by TILE_L locations, of
channels-last ones as many in a row. The index of their locations is read once for all of these classes. It says whether
any of them is more than background; only then are labels looked up. Loads and stores are WIDE logits wide, 16 bytes or
half of that, where the rows in memory (planes, or images) are a multiple of it; other planes go in a row as well.

Every program writes its sums to a place of its own; a second kernel adds them up in float64, in a fixed order, and
divides by the normalisers: the losses are the same on every run, bit for bit. Nothing waits for the GPU.
"""

# mypy: allow-untyped-defs
import triton
import triton.language as tl

from fcos_kernels.common.triton_levels import at, level_of
from fcos_kernels.loss.triton_tiles import box_block, class_line, class_planes, class_tile


@triton.jit
def _detection_loss_fwd_kernel(
    p_classes,
    p_class_grads,
    p_boxes_out,
    p_box_grads,
    p_qualities,
    p_quality_grads,
    p_scales,
    p_index,
    p_boxes,
    p_labels,
    p_positives,
    p_normalizer,
    p_parts,
    levels,
    counts,
    alpha,
    smoothing,
    gain,
    LEVELS: tl.constexpr,
    CLASSES: tl.constexpr,
    CLASSES_LAST: tl.constexpr,
    WIDE: tl.constexpr,
    BOXES_LAST: tl.constexpr,
    GAMMA: tl.constexpr,
    EXP: tl.constexpr,
    KIND: tl.constexpr,
    WEIGHTED: tl.constexpr,
    LEARN_IOU: tl.constexpr,
    TILE_C: tl.constexpr,
    TILE_L: tl.constexpr,
    NEAR: tl.constexpr,
    BOX_BLOCK: tl.constexpr,
):
    cells, first, box_first, class_first, columns, stride, start, unit = levels
    locations, box_programs = tl.cast(counts[0], tl.int32), tl.cast(counts[1], tl.int32)
    boxes = tl.cast(counts[2], tl.int32)
    program, images = tl.program_id(0), tl.num_programs(1)
    image = tl.program_id(1).to(tl.int64)
    p_part = p_parts + (program.to(tl.int64) * images + image)
    positives = 1.0
    if p_positives is not None:
        positives = tl.load(p_positives).to(tl.float32)
    if program < box_programs:
        if p_boxes_out is not None:
            level = level_of(box_first, program, LEVELS)
            own = tl.cast(at(cells, level, LEVELS), tl.int32)
            box, quality, for_scale = box_block(
                p_boxes_out,
                p_box_grads,
                p_qualities,
                p_quality_grads,
                level,
                image * own,
                p_index + (image * locations + tl.cast(at(first, level, LEVELS), tl.int32)),
                p_boxes,
                boxes,
                own,
                program - tl.cast(at(box_first, level, LEVELS), tl.int32),
                tl.cast(at(columns, level, LEVELS), tl.int32),
                at(stride, level, LEVELS),
                at(start, level, LEVELS),
                at(unit, level, LEVELS),
                tl.load(p_scales + level).to(tl.float32),
                positives,
                tl.load(p_normalizer).to(tl.float32),
                smoothing,
                LEVELS,
                BOXES_LAST,
                EXP,
                KIND,
                WEIGHTED,
                LEARN_IOU,
                BOX_BLOCK,
            )
            parts = box_programs.to(tl.int64) * images
            tl.store(p_part, box)
            tl.store(p_part + parts, quality)
            tl.store(p_part + 2 * parts, for_scale)
    else:
        level = level_of(class_first, program - box_programs, LEVELS)
        # float16 gradients wait for the incoming one without their normaliser: they would be lost
        if p_classes[0].dtype.element_ty != tl.float16:
            gain /= positives
        total = _class_block(
            at(p_classes, level, LEVELS),
            p_class_grads,
            level,
            p_index + (image * locations + tl.cast(at(first, level, LEVELS), tl.int32)),
            p_labels,
            boxes,
            image * CLASSES,
            tl.cast(at(cells, level, LEVELS), tl.int32),
            program - box_programs - tl.cast(at(class_first, level, LEVELS), tl.int32),
            alpha,
            gain,
            LEVELS,
            CLASSES,
            CLASSES_LAST,
            WIDE,
            GAMMA,
            TILE_C,
            TILE_L,
            NEAR,
        )
        tl.store(p_part + 2 * box_programs.to(tl.int64) * images, total)


@triton.jit
def _class_block(
    p_x,
    p_grads,
    level,
    p_index,
    p_labels,
    boxes,
    planes,
    cells,
    block,
    alpha,
    gain,
    LEVELS: tl.constexpr,
    CLASSES: tl.constexpr,
    LAST: tl.constexpr,
    WIDE: tl.constexpr,
    GAMMA: tl.constexpr,
    TILE_C: tl.constexpr,
    TILE_L: tl.constexpr,
    NEAR: tl.constexpr,
):
    """A block of an image that begins `planes` planes of `cells` into the level.

    Rows that are multiples of WIDE logits have a branch of their own: a compiler that knows it makes wide loads.
    """
    total = 0.0
    if LAST:
        if cells * CLASSES % WIDE == 0:
            size = cells * CLASSES // WIDE * WIDE
            total = class_line(
                p_x, p_grads, level, planes // CLASSES * size, p_index, p_labels, boxes, size, block, alpha, gain,
                LEVELS, CLASSES, GAMMA, TILE_C * TILE_L, NEAR,
            )  # fmt: skip
        else:
            total = class_line(
                p_x, p_grads, level, planes * cells, p_index, p_labels, boxes, cells * CLASSES, block, alpha, gain,
                LEVELS, CLASSES, GAMMA, TILE_C * TILE_L, NEAR,
            )  # fmt: skip
    elif cells % WIDE == 0:
        row = cells // WIDE * WIDE
        total = class_tile(
            p_x, p_grads, level, planes * row, p_index, p_labels, boxes, row, block, alpha, gain,
            LEVELS, CLASSES, GAMMA, TILE_C, TILE_L,
        )  # fmt: skip
    else:
        total = class_planes(
            p_x, p_grads, level, planes * cells, p_index, p_labels, boxes, cells, block, alpha, gain,
            LEVELS, CLASSES, GAMMA, TILE_C * TILE_L,
        )  # fmt: skip
    return total


@triton.jit
def _detection_loss_add_kernel(
    p_parts,
    p_losses,
    p_scale_grad,
    p_positives,
    p_normalizer,
    ends,
    SUMS: tl.constexpr,
    LOSSES: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Program 0, 1, 2: the losses of classes, boxes, quality; after them the gradient of each level's scale."""
    what = tl.program_id(0)
    begin, end = tl.cast(at(ends[0], what, SUMS), tl.int32), tl.cast(at(ends[1], what, SUMS), tl.int32)
    b_total = tl.zeros([BLOCK], tl.float64)
    while begin < end:
        o_part = begin + tl.arange(0, BLOCK)
        b_total += tl.load(p_parts + o_part, mask=o_part < end, other=0.0).to(tl.float64)
        begin += BLOCK
    total = tl.sum(b_total, axis=0)
    if what < LOSSES:
        if p_positives is not None:
            normalizer = tl.load(p_positives).to(tl.float32)
            if what == 1:
                normalizer = tl.load(p_normalizer).to(tl.float32)
            total = total / normalizer
        p_loss = at(p_losses, what, LOSSES)
        tl.store(p_loss, total.to(tl.float32))
    elif p_scale_grad is not None:
        tl.store(p_scale_grad + (what - LOSSES), total.to(p_scale_grad.dtype.element_ty))
