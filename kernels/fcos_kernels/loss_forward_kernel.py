"""The Triton kernels of `detection_loss` and `focal_loss`: all levels, losses and gradients, in one launch; then a sum.

A program has one of two tasks, by its number. Box programs come first: BOX_BLOCK locations of one level of one image;
they write the whole gradient of the box and the quality output, zeros where nothing is learnt. Class programs read
logits once and write their gradient once. Contiguous logits: a tile of classes by locations, down CHUNK_C classes; the
index and the labels of the locations are read once for all of them. Channels-last: LINE logits in a row; the index of
their few locations says whether any of them is more than background, and only then are labels looked up. Loads and
stores are 16 bytes wide where the rows in memory (planes, or images) are a multiple of that.

Every program writes its sums to a place of its own; a second kernel adds them up in float64, in a fixed order, and
divides by the normalisers: the losses are the same on every run, bit for bit. Nothing waits for the GPU.
"""

# mypy: allow-untyped-defs
import triton
import triton.language as tl

from fcos_kernels.loss_tiles import at, box_block, class_line, class_tiles, find


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
    BOXES_LAST: tl.constexpr,
    GAMMA: tl.constexpr,
    EXP: tl.constexpr,
    KIND: tl.constexpr,
    WEIGHTED: tl.constexpr,
    LEARN_IOU: tl.constexpr,
    TILE_C: tl.constexpr,
    TILE_L: tl.constexpr,
    CHUNK_C: tl.constexpr,
    NEAR: tl.constexpr,
    BOX_BLOCK: tl.constexpr,
):
    images, locations = tl.cast(counts[0], tl.int32), tl.cast(counts[1], tl.int32)
    box_programs = tl.cast(counts[2], tl.int32)
    program = tl.program_id(0)
    positives = 1.0
    if p_positives is not None:
        positives = tl.load(p_positives).to(tl.float32)
    if program < box_programs:
        if p_boxes_out is not None:
            level, first, cells, place = find(levels[0], program, images, LEVELS, 1, BOX_BLOCK, 1)
            blocks = tl.cdiv(cells, BOX_BLOCK)
            image = (place // blocks).to(tl.int64)
            box, quality, for_scale = box_block(
                at(p_boxes_out, level, LEVELS) + image * 4 * cells,
                _image(p_box_grads, level, image * 4 * cells, LEVELS),
                _image(p_qualities, level, image * cells, LEVELS),
                _image(p_quality_grads, level, image * cells, LEVELS),
                p_index + (image * locations + first),
                p_boxes,
                cells,
                place % blocks,
                tl.cast(at(levels[1], level, LEVELS), tl.int32),
                at(levels[2], level, LEVELS),
                at(levels[3], level, LEVELS),
                at(levels[4], level, LEVELS),
                tl.load(p_scales + level).to(tl.float32),
                positives,
                tl.load(p_normalizer).to(tl.float32),
                smoothing,
                BOXES_LAST,
                EXP,
                KIND,
                WEIGHTED,
                LEARN_IOU,
                BOX_BLOCK,
            )
            tl.store(p_parts + program, box)
            tl.store(p_parts + (box_programs + program), quality)
            tl.store(p_parts + (2 * box_programs + program), for_scale)
    else:
        # contiguous: rows of a plane's cells; channels-last: one row of an image's logits
        ACROSS: tl.constexpr = CLASSES if CLASSES_LAST else 1
        BLOCK: tl.constexpr = TILE_C * TILE_L if CLASSES_LAST else TILE_L
        CHUNKS: tl.constexpr = 1 if CLASSES_LAST else (CLASSES + CHUNK_C - 1) // CHUNK_C
        level, first, cells, place = find(levels[0], program - box_programs, images, LEVELS, ACROSS, BLOCK, CHUNKS)
        row = cells * ACROSS
        blocks = tl.cdiv(row, BLOCK)
        image = (place // (blocks * CHUNKS)).to(tl.int64)
        first_class = place // blocks % CHUNKS * CHUNK_C
        block = place % blocks
        p_own = p_index + (image * locations + first)
        VECTOR: tl.constexpr = 128 // p_classes[0].dtype.element_ty.primitive_bitwidth
        # float16 gradients wait for the incoming one without their normaliser: they would be lost
        if p_classes[0].dtype.element_ty != tl.float16:
            gain /= positives
        total = 0.0
        # The same twice: a compiler that knows rows to be multiples of 16 bytes makes wide loads and stores.
        if row % VECTOR == 0:
            total = _class_block(
                p_classes, p_class_grads, p_own, p_labels, level, image, row // VECTOR * VECTOR, block, first_class,
                alpha, gain, LEVELS, CLASSES, CLASSES_LAST, GAMMA, TILE_C, TILE_L, CHUNK_C, NEAR,
            )  # fmt: skip
        else:
            total = _class_block(
                p_classes, p_class_grads, p_own, p_labels, level, image, row, block, first_class,
                alpha, gain, LEVELS, CLASSES, CLASSES_LAST, GAMMA, TILE_C, TILE_L, CHUNK_C, NEAR,
            )  # fmt: skip
        tl.store(p_parts + (2 * box_programs + program), total)


@triton.jit
def _image(pointers, level, o_image, LEVELS: tl.constexpr):
    """Where an image begins in the output of a level; None without pointers."""
    if pointers is not None:
        return at(pointers, level, LEVELS) + o_image
    else:
        return None


@triton.jit
def _class_block(
    p_classes,
    p_class_grads,
    p_index,
    p_labels,
    level,
    image,
    row,
    block,
    first_class,
    alpha,
    gain,
    LEVELS: tl.constexpr,
    CLASSES: tl.constexpr,
    LAST: tl.constexpr,
    GAMMA: tl.constexpr,
    TILE_C: tl.constexpr,
    TILE_L: tl.constexpr,
    CHUNK_C: tl.constexpr,
    NEAR: tl.constexpr,
):
    if LAST:
        o_image = image * row
        return class_line(
            at(p_classes, level, LEVELS) + o_image, _image(p_class_grads, level, o_image, LEVELS),
            p_index, p_labels, row, block, alpha, gain, CLASSES, GAMMA, TILE_C * TILE_L, NEAR,
        )  # fmt: skip
    else:
        o_image = image * CLASSES * row
        return class_tiles(
            at(p_classes, level, LEVELS) + o_image, _image(p_class_grads, level, o_image, LEVELS),
            p_index, p_labels, row, block, first_class, alpha, gain, CLASSES, GAMMA, TILE_C, TILE_L, CHUNK_C,
        )  # fmt: skip


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
    for o_block in range(begin, end, BLOCK):
        o_part = o_block + tl.arange(0, BLOCK)
        b_total += tl.load(p_parts + o_part, mask=o_part < end, other=0.0).to(tl.float64)
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
