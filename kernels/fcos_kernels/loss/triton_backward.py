"""The Triton kernel of the backward pass of `detection_loss`: the gradients of the forward pass, scaled in place."""

# mypy: allow-untyped-defs
import triton
import triton.language as tl


@triton.jit
def _detection_loss_bwd_kernel(
    p_grads,
    p_factors,
    p_positives,
    sizes,
    gain,
    TENSORS: tl.constexpr,
    BLOCK: tl.constexpr,
    STEPS: tl.constexpr,
):
    """Gradients times the incoming ones, in place; nothing where that is 1 (float16 always: they are unnormalised)."""
    place = tl.program_id(0)
    # whole spans of BLOCK * STEPS, and what is left over
    spans, rest = tl.cast(sizes[0][0], tl.int32), tl.cast(sizes[1][0], tl.int32)
    p_grad, p_factor = p_grads[0], p_factors[0]
    here, following = place, spans + 1
    for other in tl.static_range(1, TENSORS):
        if place >= following:
            p_grad, p_factor = p_grads[other], p_factors[other]
            spans, rest = tl.cast(sizes[0][other], tl.int32), tl.cast(sizes[1][other], tl.int32)
            here = place - following
        following += tl.cast(sizes[0][other], tl.int32) + 1
    factor = tl.load(p_factor).to(tl.float32)
    if p_positives is not None and p_grad.dtype.element_ty == tl.float16:
        factor /= tl.load(p_positives).to(tl.float32) * gain
    if factor != 1.0:
        p_grad += here.to(tl.int64) * (BLOCK * STEPS)
        if here < spans:
            for step in range(STEPS):
                o_grad = step * BLOCK + tl.arange(0, BLOCK)
                b_grad = tl.load(p_grad + o_grad).to(tl.float32) * factor
                tl.store(p_grad + o_grad, b_grad.to(p_grad.dtype.element_ty))
        else:
            for step in range(STEPS):
                o_grad = step * BLOCK + tl.arange(0, BLOCK)
                b_grad = tl.load(p_grad + o_grad, mask=o_grad < rest, other=0.0).to(tl.float32) * factor
                tl.store(p_grad + o_grad, b_grad.to(p_grad.dtype.element_ty), mask=o_grad < rest)
