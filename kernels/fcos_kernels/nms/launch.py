"""Launches the Triton kernels of `nms` and `batched_nms`. They lie in `triton_nms.py`."""

import torch
import triton
from torch import Tensor

from fcos_kernels.common.variants import Variant
from fcos_kernels.nms.triton_nms import BITS, _nms_mask_kernel, _nms_sweep_kernel

CHUNK = 2048
"""Boxes of an image worked on by a pair of launches, a power of 2 and a multiple of COLUMNS."""
ROWS, COLUMNS = 64, 128
MASK_WARPS, SWEEP_WARPS = 8, 1
FEW_MASK_WARPS = "8,192 pairs of 192 boxes in registers: little waits for memory"
FEW_SWEEP_WARPS = "one warp an image"


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
    variants = []
    for name, kind in (("(int32 classes)", "*i32"), ("(int64 classes)", "*i64")):
        constants = {"CHUNK": CHUNK, "ROWS": ROWS, "COLUMNS": COLUMNS}
        signature = {"p_boxes": "*fp32", "p_classes": kind, "p_begins": "*i64", "p_counts": "*i64", **state, **numbers}
        signature |= {"kept_tiles": "i32", **sizes, "threshold": "fp32", **dict.fromkeys(constants, "constexpr")}
        aligned = tuple(x for x, kind in signature.items() if kind[0] == "*")
        variants.append(
            Variant(_nms_mask_kernel, name, "float32", signature, constants, aligned, MASK_WARPS, fused=False)._replace(
                few_warps=FEW_MASK_WARPS
            )
        )
    signature = {"p_counts": "*i64", **state, **numbers, **sizes, "CHUNK": "constexpr"}
    aligned = ("p_counts", *state)
    sweep = Variant(_nms_sweep_kernel, "", "float32", signature, {"CHUNK": CHUNK}, aligned, SWEEP_WARPS)
    variants.append(sweep._replace(few_warps=FEW_SWEEP_WARPS))
    return variants
