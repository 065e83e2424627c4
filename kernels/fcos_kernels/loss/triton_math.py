"""What the loss kernels compute for one logit or one pair of boxes, as functions for Triton, in float32.

The formulas are those of `focal.py` and `box.py`. A GPU computes few exponentials, so a logit costs two of
its special functions: e = 2^(-|x| log2 e) and r = (1 + e)^(-1/2), squared. The rest are products and sums:
log(1 + e) = e Q(e) with a polynomial Q, which unlike log(1 + e) keeps all its digits where e is small. `tl.exp2` and
`tl.rsqrt` are single instructions, where `tl.exp`, `tl.log` and a division are 4, 25 and 8. Products and sums are
fused by name, as compilers differ in what they fuse unasked.
"""

# mypy: allow-untyped-defs
import triton
import triton.language as tl

from fcos_kernels.common.triton_constants import LOG2_E, MAX_DISTANCE, MAX_EXPONENT

IOU_FLOOR = tl.constexpr(1e-12)
ALPHA_FLOOR = tl.constexpr(1e-7)
SQUARE_FLOOR = tl.constexpr(1e-12)
HALF_PI = tl.constexpr(1.5707963267948966)
FOUR_BY_PI_SQUARED = tl.constexpr(0.4052847345693511)


@triton.jit
def sigmoid_parts(b_x):
    """sigmoid(x), sigmoid(-x), log(1 + exp(-|x|)), log(1 + exp(x)); for -inf 0, 1, 0, 0."""
    b_e = tl.exp2(tl.abs(b_x) * -LOG2_E)
    b_root = tl.rsqrt(1.0 + b_e)
    b_large = b_root * b_root
    b_small = b_e * b_large
    b_rest = b_e * _log1p_ratio(b_e)
    m_up = b_x >= 0
    return tl.where(m_up, b_large, b_small), tl.where(m_up, b_small, b_large), b_rest, b_rest + tl.maximum(b_x, 0.0)


@triton.jit
def _log1p_ratio(b_e):
    """log(1 + e) / e for e in [0, 1]: minimax polynomial, relative error 2e-7."""
    b_sum = tl.fma(b_e, -0.008539208211004734, 0.04408963397145271)
    b_sum = tl.fma(b_e, b_sum, -0.10768171399831772)
    b_sum = tl.fma(b_e, b_sum, 0.17745241522789001)
    b_sum = tl.fma(b_e, b_sum, -0.24495463073253632)
    b_sum = tl.fma(b_e, b_sum, 0.33275479078292847)
    b_sum = tl.fma(b_e, b_sum, -0.4999740421772003)
    return tl.fma(b_e, b_sum, 0.9999998211860657)


@triton.jit
def background_focal(b_x, GAMMA: tl.constexpr):
    """p^g log(1 + exp(x)) and its derivative p^g (p + g (1 - p) log(1 + exp(x))); 0 for -inf.

    With -x in place of x, the loss of a positive, and its derivative but for the sign.
    """
    b_p, b_q, b_rest, b_softplus = sigmoid_parts(b_x)
    b_slope = tl.fma(b_q * b_softplus, GAMMA, b_p)
    if GAMMA == 2.0:
        b_weight = b_p * b_p
    elif GAMMA == 1.0:
        b_weight = b_p
    elif GAMMA == 0.0:
        b_weight = tl.full(b_p.shape, 1.0, tl.float32)
    else:
        b_weight = tl.exp2((tl.minimum(b_x, 0.0) - b_rest) * (GAMMA * LOG2_E))
    return b_weight * b_softplus, b_weight * b_slope


@triton.jit
def activate(b_x, EXP: tl.constexpr):
    """Distance of an output times its scale, and the derivative: exp or ReLU, bounded by e^40."""
    if EXP:
        # comparisons in this order keep NaN, which minimum and maximum drop
        b_distance = tl.exp(tl.where(b_x > MAX_EXPONENT, MAX_EXPONENT, b_x))
        return b_distance, tl.where(b_x <= MAX_EXPONENT, b_distance, 0.0)
    else:
        b_distance = tl.where(b_x > MAX_DISTANCE, MAX_DISTANCE, tl.where(b_x < 0, 0.0, b_x))
        return b_distance, tl.where((b_x > 0) & (b_x <= MAX_DISTANCE), 1.0, 0.0)


@triton.jit
def centerness(b_l, b_t, b_r, b_b):
    """Of target distances, which are above 0."""
    b_across = tl.minimum(b_l, b_r) / tl.maximum(b_l, b_r)
    b_along = tl.minimum(b_t, b_b) / tl.maximum(b_t, b_b)
    return tl.sqrt(tl.minimum(tl.maximum(b_across * b_along, 0.0), 1.0))


@triton.jit
def box_terms(p_l, p_t, p_r, p_b, t_l, t_t, t_r, t_b, smoothing, KIND: tl.constexpr):
    """Loss, its derivatives by the predicted l, t, r, b, and the plain IoU; `box.box_terms` without tensors."""
    w, h, t_w, t_h = p_l + p_r, p_t + p_b, t_l + t_r, t_t + t_b
    shared_w = tl.minimum(p_l, t_l) + tl.minimum(p_r, t_r)
    shared_h = tl.minimum(p_t, t_t) + tl.minimum(p_b, t_b)
    low_l, low_t, low_r, low_b = _low(p_l, t_l), _low(p_t, t_t), _low(p_r, t_r), _low(p_b, t_b)
    shared = shared_w * shared_h
    union = w * h + t_w * t_h - shared
    iou = (shared + smoothing) / (union + smoothing)
    scale = 1.0 / (union + smoothing)
    # dU = d(w h) - dI
    d_l = -_iou_slope(low_l * shared_h, h, iou, scale)
    d_t = -_iou_slope(low_t * shared_w, w, iou, scale)
    d_r = -_iou_slope(low_r * shared_h, h, iou, scale)
    d_b = -_iou_slope(low_b * shared_w, w, iou, scale)
    if KIND == "iou":
        floored = tl.where(iou < IOU_FLOOR, IOU_FLOOR, iou)
        loss = -tl.log(floored)
        factor = tl.where(iou >= IOU_FLOOR, 1.0 / floored, 0.0)
        d_l, d_t, d_r, d_b = d_l * factor, d_t * factor, d_r * factor, d_b * factor
    else:
        loss = 1.0 - iou
    if KIND == "giou" or KIND == "diou" or KIND == "ciou":
        hull_w = tl.maximum(p_l, t_l) + tl.maximum(p_r, t_r)
        hull_h = tl.maximum(p_t, t_t) + tl.maximum(p_b, t_b)
    if KIND == "giou":
        area = hull_w * hull_h
        filled = union / area
        loss += 1.0 - filled
        d_l -= (h - low_l * shared_h - filled * (1.0 - low_l) * hull_h) / area
        d_t -= (w - low_t * shared_w - filled * (1.0 - low_t) * hull_w) / area
        d_r -= (h - low_r * shared_h - filled * (1.0 - low_r) * hull_h) / area
        d_b -= (w - low_b * shared_w - filled * (1.0 - low_b) * hull_w) / area
    if KIND == "diou" or KIND == "ciou":
        apart_x = ((p_r - p_l) - (t_r - t_l)) * 0.5
        apart_y = ((p_b - p_t) - (t_b - t_t)) * 0.5
        diagonal = hull_w * hull_w + hull_h * hull_h
        ratio = (apart_x * apart_x + apart_y * apart_y) / diagonal
        loss += ratio
        d_l -= (apart_x + 2.0 * ratio * (1.0 - low_l) * hull_w) / diagonal
        d_t -= (apart_y + 2.0 * ratio * (1.0 - low_t) * hull_h) / diagonal
        d_r += (apart_x - 2.0 * ratio * (1.0 - low_r) * hull_w) / diagonal
        d_b += (apart_y - 2.0 * ratio * (1.0 - low_b) * hull_h) / diagonal
    if KIND == "ciou":
        turn = _angle(t_w, t_h) - _angle(w, h)
        v = FOUR_BY_PI_SQUARED * turn * turn
        # a constant for the gradient
        alpha = v / (1.0 - iou + v + ALPHA_FLOOR)
        slope = -2.0 * FOUR_BY_PI_SQUARED * alpha * turn / tl.maximum(w * w + h * h, SQUARE_FLOOR)
        loss += alpha * v
        d_l, d_t, d_r, d_b = d_l + slope * h, d_t - slope * w, d_r + slope * h, d_b - slope * w
    return loss, d_l, d_t, d_r, d_b, shared / union


@triton.jit
def _low(predicted, target):
    """d min(predicted, target) / d predicted: half where they are equal."""
    return tl.where(predicted < target, 1.0, tl.where(predicted == target, 0.5, 0.0))


@triton.jit
def _iou_slope(d_shared, across, iou, scale):
    return (d_shared - iou * (across - d_shared)) * scale


@triton.jit
def _angle(b_y, b_x):
    """atan2(y, x) for y, x >= 0, 0 for (0, 0): minimax polynomial up to 45 degrees, error 2e-7."""
    larger = tl.maximum(b_y, b_x)
    ratio = tl.where(larger > 0, tl.minimum(b_y, b_x) / tl.where(larger > 0, larger, 1.0), 0.0)
    square = ratio * ratio
    b_sum = tl.fma(square, 0.002849889686331153, -0.016068629920482635)
    b_sum = tl.fma(square, b_sum, 0.04269152134656906)
    b_sum = tl.fma(square, b_sum, -0.07504294812679291)
    b_sum = tl.fma(square, b_sum, 0.10640934109687805)
    b_sum = tl.fma(square, b_sum, -0.14203643798828125)
    b_sum = tl.fma(square, b_sum, 0.1999261975288391)
    b_sum = tl.fma(square, b_sum, -0.3333307206630707)
    angle = ratio * tl.fma(square, b_sum, 1.0)
    return tl.where(b_y > b_x, HALF_PI - angle, angle)
