"""Launches the Triton kernels of `decode_padded`: `triton_scan.py` finds, `triton_select.py` chooses.

Nothing waits for the GPU. Buffers have the size of the worst case and are not filled: only the keys of survivors are
written and read.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from fcos_kernels.common.levels import EXACT, MOST_IMAGES, begins, floats
from fcos_kernels.common.outputs import Outputs
from fcos_kernels.common.tensors import is_last
from fcos_kernels.common.variants import POINTERS, Variant
from fcos_kernels.decode.triton_scan import _decode_compact_kernel, _decode_count_kernel
from fcos_kernels.decode.triton_select import _decode_boxes_kernel, _decode_select_kernel
from fcos_kernels.decode.types import PaddedCandidates, Rule

TILE = 4096
"""Logits of a program."""
COUNT_WARPS, COMPACT_WARPS = 4, 16
SELECT_BLOCK, SELECT_WARPS = 2048, 8
BOX_BLOCK, BOX_WARPS = 128, 4


def supports(outputs: Outputs, rule: Rule) -> bool:
    """Whether the kernels take these: no float64, one dtype for all levels of an output, sizes that can be counted."""
    if not outputs.suit_triton():
        return False
    images, classes = outputs.classes[0].shape[:2]
    locations = sum(x.shape[2] * x.shape[3] for x in outputs.classes)
    reach = max(
        abs(start) + max(x.shape[2:]) * stride
        for x, stride, start in zip(outputs.classes, rule.strides, rule.starts, strict=True)
    )
    return (
        max(locations, reach, sum(rule.most(outputs.classes))) < EXACT
        and locations * max(classes, 4) < 2**30
        and images < MOST_IMAGES
    )


def launch(outputs: Outputs, sizes: Tensor, rule: Rule) -> PaddedCandidates:
    """Candidates of dense and supported outputs (`Outputs.dense`), which have passed the checks of `decode_padded`."""
    classes = outputs.classes
    device, (images, channels) = classes[0].device, classes[0].shape[:2]
    cells = [x.shape[2] * x.shape[3] for x in classes]
    most = rule.most(classes)
    candidates = rule.empty(classes)
    if not candidates.scores.numel():
        return candidates
    tiles = [triton.cdiv(own * channels, TILE) for own in cells]
    programs, row, wide = sum(tiles), sum(cells) * channels, max(most)
    blocks = [triton.cdiv(own, BOX_BLOCK) for own in most]
    counts = torch.empty((images, programs), dtype=torch.int32, device=device)
    keys = torch.empty((images, row), dtype=torch.int64, device=device)
    chosen = torch.empty((images, len(classes), wide), dtype=torch.int64, device=device)
    scales, lowest = outputs.scales.contiguous(), rule.lowest_logit()
    ends = [begin + count for begin, count in zip(begins(tiles), tiles, strict=True)]
    what = _constants(outputs, rule)
    root = rule.score == "sqrt" and rule.quality != "none"
    pointers = tuple(classes), tuple(outputs.boxes), tuple(outputs.qualities) or None, scales
    with torch.cuda.device_of(counts):
        _decode_count_kernel[(programs, images)](
            tuple(classes),
            counts,
            floats(cells, begins(tiles)),
            lowest,
            LEVELS=len(classes),
            CLASSES=channels,
            WIDE=16 // classes[0].element_size(),
            TILE=TILE,
            num_warps=COUNT_WARPS,
        )
        sums = counts.cumsum(1, dtype=torch.int32)
        _decode_compact_kernel[(programs, images)](
            *pointers,
            counts,
            sums,
            keys,
            floats(cells, begins(tiles)),
            row,
            lowest,
            float(rule.threshold),
            ON_SCORE=rule.threshold_on == "score",
            RANK_BY_SCORE=rule.rank_by == "score",
            ROOT=root,
            WIDE=16 // classes[0].element_size(),
            TILE=TILE,
            num_warps=COMPACT_WARPS,
            **what,
        )
        _decode_select_kernel[(len(classes), images)](
            keys,
            sums,
            chosen,
            floats(begins(tiles), ends, most),
            row,
            programs,
            wide,
            LEVELS=len(classes),
            BLOCK=SELECT_BLOCK,
            num_warps=SELECT_WARPS,
        )
        columns = [x.shape[3] for x in classes]
        _decode_boxes_kernel[(sum(blocks), images)](
            chosen.sort(dim=2, descending=True).values,
            *pointers,
            sizes.contiguous(),
            *candidates,
            floats(
                cells, begins(cells), begins(blocks), most, begins(most), columns, rule.strides, rule.starts, rule.units
            ),
            wide,
            sum(most),
            ROOT=root,
            BLOCK=BOX_BLOCK,
            num_warps=BOX_WARPS,
            **what,
        )
    return candidates


def _constants(outputs: Outputs, rule: Rule) -> dict[str, Any]:
    return {
        "LEVELS": len(outputs.classes),
        "CLASSES": outputs.classes[0].shape[1],
        "LAST": is_last(outputs.classes),
        "BOXES_LAST": is_last(outputs.boxes),
        "FROM_BOX": rule.quality == "from_box",
        "EXP": rule.activation == "exp",
    }


def variants() -> list[Variant]:
    """Five levels of 80 classes: every dtype, both memory formats, and another quality."""
    variants = []
    for dtype, pointer in POINTERS.items():
        for last in (True,) if dtype == "float16" else (False, True):
            variants += _variants("channels-last" if last else "contiguous", dtype, pointer, last)
    variants += _variants("channels-last, from box", "bfloat16", "*bf16", True, from_box=True)
    constants = {"LEVELS": 5, "BLOCK": SELECT_BLOCK}
    signature: dict[str, Any] = {"p_keys": "*i64", "p_ends": "*i32", "p_chosen": "*i64", "levels": (("fp32",) * 5,) * 3}
    signature |= dict.fromkeys(("row", "tiles", "wide"), "i32") | dict.fromkeys(constants, "constexpr")
    aligned = ("p_keys", "p_ends", "p_chosen")
    few = "a program for each level and image: an SM has one of them or none"
    select = Variant(_decode_select_kernel, "", "int64", signature, constants, aligned, SELECT_WARPS, few_warps=few)
    return [*variants, select]


def _variants(name: str, dtype: str, pointer: str, last: bool, from_box: bool = False) -> list[Variant]:
    """The three kernels that read the head's outputs."""
    levels = 5
    kinds: dict[str, Any] = dict.fromkeys(("p_logits", "p_boxes_out", "p_qualities"), (pointer,) * levels)
    kinds |= {"p_scales": "*fp32", "p_sizes": "*i64", "p_keys": "*i64", "p_chosen": "*i64"}
    kinds |= dict.fromkeys(("p_counts", "p_ends", "p_labels", "p_levels", "p_locations"), "*i32")
    kinds |= {"p_boxes": "*fp32", "p_scores": "*fp32", "lowest": "fp32", "threshold": "fp32"}
    kinds |= dict.fromkeys(("row", "wide", "columns_all"), "i32")
    constants: dict[str, Any] = {"LEVELS": levels, "CLASSES": 80, "LAST": last, "BOXES_LAST": last}
    constants |= {"FROM_BOX": from_box, "EXP": True, "ROOT": True, "ON_SCORE": from_box, "RANK_BY_SCORE": True}
    constants |= {"WIDE": 16 // (4 if dtype == "float32" else 2), "TILE": TILE}
    if from_box:
        constants["p_qualities"] = None
    variants = []
    for kernel, rows, warps, wide, few in (
        (_decode_count_kernel, 2, COUNT_WARPS, True, ""),
        (_decode_compact_kernel, 2, COMPACT_WARPS, True, "one program of 16 warps shares 32 KB of keys"),
        (_decode_boxes_kernel, 9, BOX_WARPS, False, ""),
    ):
        own = kinds | {"levels": (("fp32",) * levels,) * rows} | dict.fromkeys(constants, "constexpr")
        own["BLOCK"] = "constexpr"
        signature = {argument: own[argument] for argument in kernel.arg_names}
        fixed = {key: value for key, value in {**constants, "BLOCK": BOX_BLOCK}.items() if key in signature}
        aligned = tuple(key for key in signature if key.startswith("p_") and key not in fixed)
        loads = ("p_logits",) if wide else ()
        variants.append(Variant(kernel, name, dtype, signature, fixed, aligned, warps, loads, few_warps=few))
    return variants
