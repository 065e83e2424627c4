"""Launches the Triton kernel of the losses' backward pass. It lies in `triton_backward.py`."""

from collections.abc import Sequence

import torch
from torch import Tensor

from fcos_kernels.common.levels import floats
from fcos_kernels.common.variants import POINTERS, Variant
from fcos_kernels.loss.triton_backward import _detection_loss_bwd_kernel
from fcos_kernels.loss.types import FLOAT16_GAIN

BLOCK, STEPS, WARPS = 2048, 8, 4


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
                floats(*zip(*spans, strict=True)),
                FLOAT16_GAIN,
                TENSORS=len(chosen),
                BLOCK=BLOCK,
                STEPS=STEPS,
                num_warps=WARPS,
            )


def variants(levels: int) -> list[Variant]:
    """All gradients of a head of `levels` levels with a quality branch; of float16 those of the classes."""
    variants = []
    for dtype, pointer in POINTERS.items():
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
        kinds = signature, constants, aligned
        variants.append(Variant(_detection_loss_bwd_kernel, "", dtype, *kinds, WARPS, ("p_grads",)))
    return variants
