"""Launches the Triton kernels of `decode_padded`: `triton_scan.py` finds, `triton_select.py` chooses.

Nothing waits for the GPU. Keys have room for an eighth of a level's logits: where more reach the threshold, that level
is chosen from its logits themselves. Buffers are not filled: only the keys of survivors are written and read.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from fcos_kernels.common.levels import EXACT, MOST_IMAGES, begins, floats
from fcos_kernels.common.outputs import Outputs
from fcos_kernels.common.tensors import is_last
from fcos_kernels.common.variants import POINTERS, Variant
from fcos_kernels.decode.triton_scan import _decode_scan_kernel
from fcos_kernels.decode.triton_select import _decode_boxes_kernel, _decode_select_kernel
from fcos_kernels.decode.types import PaddedCandidates, Rule

TILE_BYTES, SCAN_WARPS = 8192, 4
"""Logits of a program, 64 bytes a thread."""
ROOM, LEAST_ROOM, MOST_ROOM = 8, 4096, 2**19
"""Keys of a level have room for one logit in so many, at least and at most for so many."""
SELECT_BLOCK, SELECT_WARPS = 256, 4
MOST_SORTED, SORTED_WARPS = 2048, 16
"""Keys of a level that one program sorts; PyTorch sorts more."""
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
    logits = [own * channels for own in cells]
    tile = TILE_BYTES // classes[0].element_size()
    tiles = [triton.cdiv(own, tile) for own in logits]
    room = [min(own, max(own // ROOM, LEAST_ROOM), MOST_ROOM) for own in logits]
    row, wide = sum(room), max(most)
    sort = wide <= MOST_SORTED
    block = max(32, int(triton.next_power_of_2(wide))) if sort else BOX_BLOCK
    blocks = [triton.cdiv(own, block) for own in most]
    keys = torch.empty((images, row), dtype=torch.int64, device=device)
    counts = torch.zeros((images, len(classes)), dtype=torch.int32, device=device)
    chosen = torch.empty((images, len(classes), wide), dtype=torch.int64, device=device)
    scales, wide_load = outputs.scales.contiguous(), 16 // classes[0].element_size()
    what, rank = _constants(outputs, rule), _ranking(rule)
    pointers = tuple(classes), tuple(outputs.boxes), tuple(outputs.qualities) or None, scales
    with torch.cuda.device_of(counts):
        _decode_scan_kernel[(sum(tiles), images)](
            *pointers,
            keys,
            counts,
            floats(cells, begins(tiles), begins(room), room),
            row,
            rule.lowest_logit(),
            float(rule.threshold),
            WIDE=wide_load,
            TILE=tile,
            num_warps=SCAN_WARPS,
            **what,
            **rank,
        )
        _decode_select_kernel[(len(classes), images)](
            *pointers,
            keys,
            counts,
            chosen,
            floats(cells, begins(room), room, most),
            row,
            wide,
            float(rule.threshold),
            BLOCK=SELECT_BLOCK,
            num_warps=SELECT_WARPS,
            **what,
            **rank,
        )
        columns = [x.shape[3] for x in classes]
        _decode_boxes_kernel[(sum(blocks), images)](
            chosen if sort else chosen.sort(dim=2, descending=True).values,
            *pointers,
            sizes.contiguous(),
            *candidates,
            floats(
                cells, begins(cells), begins(blocks), most, begins(most), columns, rule.strides, rule.starts, rule.units
            ),
            wide,
            sum(most),
            ROOT=rank["ROOT"],
            SORT=sort,
            BLOCK=block,
            num_warps=SORTED_WARPS if sort else BOX_WARPS,
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


def _ranking(rule: Rule) -> dict[str, bool]:
    return {
        "ON_SCORE": rule.threshold_on == "score",
        "RANK_BY_SCORE": rule.rank_by == "score",
        "ROOT": rule.score == "sqrt" and rule.quality != "none",
    }


def variants() -> list[Variant]:
    """Five levels of 80 classes: every dtype, both memory formats, and another quality."""
    variants = []
    for dtype, pointer in POINTERS.items():
        for last in (True,) if dtype == "float16" else (False, True):
            variants += _variants("channels-last" if last else "contiguous", dtype, pointer, last)
    return variants + _variants("channels-last, from box", "bfloat16", "*bf16", True, from_box=True)


def _variants(name: str, dtype: str, pointer: str, last: bool, from_box: bool = False) -> list[Variant]:
    """The three kernels, all of which read the head's outputs; boxes of sorted keys, and of keys that they sort."""
    levels = 5
    kinds: dict[str, Any] = dict.fromkeys(("p_logits", "p_boxes_out", "p_qualities"), (pointer,) * levels)
    kinds |= {"p_scales": "*fp32", "p_sizes": "*i64", "p_keys": "*i64", "p_chosen": "*i64"}
    kinds |= dict.fromkeys(("p_found", "p_labels", "p_levels", "p_locations"), "*i32")
    kinds |= {"p_boxes": "*fp32", "p_scores": "*fp32", "lowest": "fp32", "threshold": "fp32"}
    kinds |= dict.fromkeys(("row", "wide", "columns_all"), "i32")
    constants: dict[str, Any] = {"LEVELS": levels, "CLASSES": 80, "LAST": last, "BOXES_LAST": last}
    constants |= {"FROM_BOX": from_box, "EXP": True, "ROOT": True, "ON_SCORE": from_box, "RANK_BY_SCORE": True}
    size = 4 if dtype == "float32" else 2
    constants |= {"WIDE": 16 // size, "TILE": TILE_BYTES // size}
    if from_box:
        constants["p_qualities"] = None
    single = "a program for each level and image: an SM has one of them or none"
    flying = "64 bytes a thread: 28 warps have 57 KB on their way, and memory's latency needs 16"
    variants = []
    for kernel, rows, warps, own_constants, extra in (
        (_decode_scan_kernel, 4, SCAN_WARPS, {}, ""),
        (_decode_select_kernel, 4, SELECT_WARPS, {"BLOCK": SELECT_BLOCK}, ""),
        (_decode_boxes_kernel, 9, SORTED_WARPS, {"BLOCK": 1024, "SORT": True}, ", sorting"),
        (_decode_boxes_kernel, 9, BOX_WARPS, {"BLOCK": BOX_BLOCK, "SORT": False}, ""),
    ):
        values = constants | own_constants
        types = kinds | {"levels": (("fp32",) * levels,) * rows} | dict.fromkeys(values, "constexpr")
        signature = {argument: types[argument] for argument in kernel.arg_names}
        fixed = {key: value for key, value in values.items() if key in signature}
        aligned = tuple(key for key in signature if key.startswith("p_") and key not in fixed)
        loads = ("p_logits",) if kernel is _decode_scan_kernel else ()
        few = flying if loads else single if kernel is _decode_select_kernel or own_constants.get("SORT") else ""
        variants.append(Variant(kernel, name + extra, dtype, signature, fixed, aligned, warps, loads, few_warps=few))
    return variants
