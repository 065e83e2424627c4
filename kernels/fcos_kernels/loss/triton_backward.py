"""The Triton kernel of the backward pass of `detection_loss`: the gradients of the forward pass, scaled in place."""

# mypy: allow-untyped-defs
from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from fcos_kernels.common.variants import Variant
from fcos_kernels.loss.types import FLOAT16_GAIN

BLOCK, STEPS, WARPS = 2048, 8, 4


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


def launch(gradients: Sequence[Tensor], factors: Sequence[Tensor], positives: Tensor | None) -> None:
    """Multiplies each of `gradients`, dense, by its scalar of `factors`: one launch for each dtype there is.

    With `positives`, float16 ones are divided by it and FLOAT16_GAIN. The GPU sees whether there is anything to do.
    """
    for dtype in dict.fromkeys(x.dtype for x in gradients):
        chosen = [place for place, x in enumerate(gradients) if x.dtype == dtype and x.numel()]
        if not chosen:
            continue
        spans = [divmod(gradients[place].numel(), BLOCK * STEPS) for place in chosen]
        with torch.cuda.device_of(gradients[chosen[0]]):
            _detection_loss_bwd_kernel[(sum(whole + 1 for whole, _ in spans),)](
                tuple(gradients[place] for place in chosen),
                tuple(factors[place] for place in chosen),
                positives,
                tuple(tuple(float(number) for number in row) for row in zip(*spans, strict=True)),
                FLOAT16_GAIN,
                TENSORS=len(chosen),
                BLOCK=BLOCK,
                STEPS=STEPS,
                num_warps=WARPS,
            )


def variants(pointers: dict[str, str], levels: int) -> list[Variant]:
    """All gradients of a head of `levels` levels with a quality branch; of float16 those of the classes."""
    found = []
    for dtype, pointer in pointers.items():
        tensors = levels if dtype == "float16" else 3 * levels
        constants = {"TENSORS": tensors, "BLOCK": BLOCK, "STEPS": STEPS}
        signature = {
            "p_grads": (pointer,) * tensors,
            "p_factors": ("*fp32",) * tensors,
            "p_positives": "*fp32",
            "sizes": (("fp32",) * tensors,) * 2,
            "gain": "fp32",
            **dict.fromkeys(constants, "constexpr"),
        }
        aligned = ("p_grads", "p_factors", "p_positives")
        found.append(Variant(_detection_loss_bwd_kernel, "", dtype, signature, constants, aligned, WARPS, True))
    return found
