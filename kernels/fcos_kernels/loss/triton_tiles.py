"""What one program of the loss kernels does, as functions for Triton: a part of the class logits, or of the boxes."""

# mypy: allow-untyped-defs
import triton
import triton.language as tl

from fcos_kernels.common.triton_levels import at
from fcos_kernels.loss.triton_math import activate, background_focal, box_terms, centerness, sigmoid_parts

BACKGROUND = tl.constexpr(-1)
IGNORED = tl.constexpr(-2)


@triton.jit
def class_line(
    p_x,
    p_grads,
    level,
    o_image,
    p_index,
    p_labels,
    boxes,
    size,
    block,
    alpha,
    gain,
    LEVELS: tl.constexpr,
    CLASSES: tl.constexpr,
    GAMMA: tl.constexpr,
    LINE: tl.constexpr,
    NEAR: tl.constexpr,
):
    """LINE logits of one image, channels-last; returns their loss. `size`: logits of an image."""
    begin = block * LINE
    o_x = begin + tl.arange(0, LINE)
    m_x = o_x < size
    b_x = tl.load(p_x + o_image + o_x, mask=m_x, other=-float("inf")).to(tl.float32)
    o_near = begin // CLASSES + tl.arange(0, NEAR)
    m_near = (o_near * CLASSES < begin + LINE) & (o_near < size // CLASSES)
    b_near = tl.load(p_index + o_near, mask=m_near, other=BACKGROUND)
    if tl.max((b_near != BACKGROUND).to(tl.int32), axis=0) == 0:
        b_loss, b_slope = background_focal(b_x, GAMMA)
        total = tl.sum(b_loss, axis=0) * (1.0 - alpha)
        b_slope *= (1.0 - alpha) * gain
    else:
        o_cell = o_x // CLASSES
        b_index = tl.load(p_index + o_cell, mask=m_x, other=BACKGROUND)
        b_label = _look_up(p_labels, b_index, boxes, CLASSES)
        b_loss, b_slope = _focal(b_x, b_label == o_x - o_cell * CLASSES, b_label == IGNORED, alpha, gain, GAMMA)
        total = tl.sum(b_loss, axis=0)
    if p_grads is not None:
        p_grad = at(p_grads, level, LEVELS) + o_image
        tl.store(p_grad + o_x, b_slope.to(p_grad.dtype.element_ty), mask=m_x)
    return total


@triton.jit
def class_tile(
    p_x,
    p_grads,
    level,
    o_image,
    p_index,
    p_labels,
    boxes,
    cells,
    block,
    alpha,
    gain,
    LEVELS: tl.constexpr,
    CLASSES: tl.constexpr,
    GAMMA: tl.constexpr,
    TILE_C: tl.constexpr,
    TILE_L: tl.constexpr,
):
    """TILE_C classes of TILE_L locations of one image, contiguous; returns their loss."""
    CHUNKS: tl.constexpr = (CLASSES + TILE_C - 1) // TILE_C
    chunk = block % CHUNKS
    o_cell = block // CHUNKS * TILE_L + tl.arange(0, TILE_L)
    o_class = chunk * TILE_C + tl.arange(0, TILE_C)
    m_cell = o_cell < cells
    o_x = o_class[:, None] * cells + o_cell[None, :]
    if CLASSES % TILE_C == 0:
        m_x = tl.broadcast_to(m_cell[None, :], [TILE_C, TILE_L])
    else:
        m_x = (o_class < CLASSES)[:, None] & m_cell[None, :]
    b_x = tl.load(p_x + o_image + o_x, mask=m_x, other=-float("inf")).to(tl.float32)
    b_label = tl.load(p_index + o_cell, mask=m_cell, other=BACKGROUND)
    busy = tl.max((b_label != BACKGROUND).to(tl.int32), axis=0)
    if busy != 0:
        b_label = _look_up(p_labels, b_label, boxes, CLASSES)
        b_place = b_label - chunk * TILE_C
        m_here = ((b_place >= 0) & (b_place < TILE_C)) | (b_label == IGNORED)
        busy = tl.max(m_here.to(tl.int32), axis=0)
    if busy == 0:
        b_loss, b_slope = background_focal(b_x, GAMMA)
        total = tl.sum(tl.sum(b_loss, axis=1), axis=0) * (1.0 - alpha)
        b_slope *= (1.0 - alpha) * gain
    else:
        m_own = b_label[None, :] == o_class[:, None]
        b_loss, b_slope = _focal(b_x, m_own, (b_label == IGNORED)[None, :], alpha, gain, GAMMA)
        total = tl.sum(tl.sum(b_loss, axis=1), axis=0)
    if p_grads is not None:
        p_grad = at(p_grads, level, LEVELS) + o_image
        tl.store(p_grad + o_x, b_slope.to(p_grad.dtype.element_ty), mask=m_x)
    return total


@triton.jit
def class_planes(
    p_x,
    p_grads,
    level,
    o_image,
    p_index,
    p_labels,
    boxes,
    cells,
    block,
    alpha,
    gain,
    LEVELS: tl.constexpr,
    CLASSES: tl.constexpr,
    GAMMA: tl.constexpr,
    LINE: tl.constexpr,
):
    """LINE logits in a row of one image, contiguous, whatever planes they lie in; returns their loss."""
    o_x = block * LINE + tl.arange(0, LINE)
    m_x = o_x < CLASSES * cells
    b_x = tl.load(p_x + o_image + o_x, mask=m_x, other=-float("inf")).to(tl.float32)
    o_class = o_x // cells
    b_index = tl.load(p_index + (o_x - o_class * cells), mask=m_x, other=BACKGROUND)
    b_label = _look_up(p_labels, b_index, boxes, CLASSES)
    b_loss, b_slope = _focal(b_x, b_label == o_class, b_label == IGNORED, alpha, gain, GAMMA)
    if p_grads is not None:
        p_grad = at(p_grads, level, LEVELS) + o_image
        tl.store(p_grad + o_x, b_slope.to(p_grad.dtype.element_ty), mask=m_x)
    return tl.sum(b_loss, axis=0)


@triton.jit
def _look_up(p_labels, b_index, boxes, CLASSES: tl.constexpr):
    """Class of each index, IGNORED or BACKGROUND; the index is the class where there is no table.

    Nobody has looked at these values on the host: what is out of range is background, and leads nowhere else.
    """
    b_label = b_index
    if p_labels is not None:
        b_own = tl.load(p_labels + b_index, mask=(b_index >= 0) & (b_index < boxes), other=BACKGROUND)
        b_label = tl.where(b_index >= 0, tl.maximum(b_own, BACKGROUND), b_index)
    return tl.where(b_label < CLASSES, b_label, BACKGROUND)


@triton.jit
def _focal(b_x, m_own, m_ignored, alpha, gain, GAMMA: tl.constexpr):
    """Loss and gradient times `gain` of logits, some of which are of the class that is there (`m_own`)."""
    b_x = tl.where(m_ignored, -float("inf"), tl.where(m_own, -b_x, b_x))
    b_loss, b_slope = background_focal(b_x, GAMMA)
    b_weight = tl.where(m_own, alpha, 1.0 - alpha)
    return b_loss * b_weight, b_slope * tl.where(m_own, -alpha * gain, (1.0 - alpha) * gain)


@triton.jit
def box_block(
    p_outputs,
    p_grads,
    p_qualities,
    p_quality_grads,
    level,
    o_image,
    p_index,
    p_boxes,
    boxes,
    cells,
    block,
    columns,
    stride,
    start,
    unit,
    scale,
    positives,
    normalizer,
    smoothing,
    LEVELS: tl.constexpr,
    LAST: tl.constexpr,
    EXP: tl.constexpr,
    KIND: tl.constexpr,
    WEIGHTED: tl.constexpr,
    LEARN_IOU: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """BLOCK locations of one image; returns their box and quality loss, not normalised, and their scale's gradient."""
    o_cell = block * BLOCK + tl.arange(0, BLOCK)
    m_cell = o_cell < cells
    b_index = tl.load(p_index + o_cell, mask=m_cell, other=BACKGROUND)
    m_own = (b_index >= 0) & (b_index < boxes)
    if LAST:
        o_l, step = o_cell * 4, 1
    else:
        o_l, step = o_cell, cells
    b_l = tl.zeros([BLOCK], tl.float32)
    b_t, b_r, b_b, b_q = b_l, b_l, b_l, b_l
    box, quality, for_scale = 0.0, 0.0, 0.0
    if tl.max(m_own.to(tl.int32), axis=0) != 0:
        p_output = at(p_outputs, level, LEVELS) + o_image * 4
        x_l = tl.load(p_output + o_l, mask=m_own, other=0.0).to(tl.float32)
        x_t = tl.load(p_output + (o_l + step), mask=m_own, other=0.0).to(tl.float32)
        x_r = tl.load(p_output + (o_l + 2 * step), mask=m_own, other=0.0).to(tl.float32)
        x_b = tl.load(p_output + (o_l + 3 * step), mask=m_own, other=0.0).to(tl.float32)
        p_l, slope_l = activate(x_l * scale, EXP)
        p_t, slope_t = activate(x_t * scale, EXP)
        p_r, slope_r = activate(x_r * scale, EXP)
        p_b, slope_b = activate(x_b * scale, EXP)

        o_row = o_cell // columns
        b_x = start + (o_cell - o_row * columns).to(tl.float32) * stride
        b_y = start + o_row.to(tl.float32) * stride
        p_box = p_boxes + tl.where(m_own, b_index, 0).to(tl.int64) * 4
        t_l = (b_x - tl.load(p_box, mask=m_own, other=0.0)) / unit
        t_t = (b_y - tl.load(p_box + 1, mask=m_own, other=0.0)) / unit
        t_r = (tl.load(p_box + 2, mask=m_own, other=0.0) - b_x) / unit
        t_b = (tl.load(p_box + 3, mask=m_own, other=0.0) - b_y) / unit
        # lanes without a box compute something harmless
        t_l, t_t = tl.where(m_own, t_l, 1.0), tl.where(m_own, t_t, 1.0)
        t_r, t_b = tl.where(m_own, t_r, 1.0), tl.where(m_own, t_b, 1.0)

        b_loss, d_l, d_t, d_r, d_b, b_iou = box_terms(p_l, p_t, p_r, p_b, t_l, t_t, t_r, t_b, smoothing, KIND)
        b_center = centerness(t_l, t_t, t_r, t_b)
        b_weight = m_own.to(tl.float32)
        if WEIGHTED:
            b_weight *= b_center
        box = tl.sum(tl.where(m_own, b_loss * b_weight, 0.0), axis=0)
        b_weight /= normalizer
        d_l, d_t = d_l * slope_l * b_weight, d_t * slope_t * b_weight
        d_r, d_b = d_r * slope_r * b_weight, d_b * slope_b * b_weight
        for_scale = tl.sum(tl.where(m_own, d_l * x_l + d_t * x_t + d_r * x_r + d_b * x_b, 0.0), axis=0)
        b_l, b_t = tl.where(m_own, d_l * scale, 0.0), tl.where(m_own, d_t * scale, 0.0)
        b_r, b_b = tl.where(m_own, d_r * scale, 0.0), tl.where(m_own, d_b * scale, 0.0)
        if p_qualities is not None:
            x_q = tl.load(at(p_qualities, level, LEVELS) + o_image + o_cell, mask=m_own, other=0.0).to(tl.float32)
            b_goal = b_iou if LEARN_IOU else b_center
            b_p, _, _, b_softplus = sigmoid_parts(x_q)
            quality = tl.sum(tl.where(m_own, b_softplus - b_goal * x_q, 0.0), axis=0)
            b_q = tl.where(m_own, (b_p - b_goal) / positives, 0.0)
    if p_grads is not None:
        p_grad = at(p_grads, level, LEVELS) + o_image * 4
        kind = p_grad.dtype.element_ty
        tl.store(p_grad + o_l, b_l.to(kind), mask=m_cell)
        tl.store(p_grad + (o_l + step), b_t.to(kind), mask=m_cell)
        tl.store(p_grad + (o_l + 2 * step), b_r.to(kind), mask=m_cell)
        tl.store(p_grad + (o_l + 3 * step), b_b.to(kind), mask=m_cell)
    if p_quality_grads is not None:
        p_quality_grad = at(p_quality_grads, level, LEVELS) + o_image
        tl.store(p_quality_grad + o_cell, b_q.to(p_quality_grad.dtype.element_ty), mask=m_cell)
    return box, quality, for_scale
