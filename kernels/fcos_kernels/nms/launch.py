"""Launches the Triton kernels of `nms` and `batched_nms`: `triton_order.py` sorts, `triton_nms.py` suppresses."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from fcos_kernels.common.variants import Variant
from fcos_kernels.nms.triton_nms import _nms_mask_kernel, _nms_sweep_kernel
from fcos_kernels.nms.triton_order import BITS, _nms_keys_kernel, _nms_merge_kernel

FIRST_CHUNK, CHUNK = 256, 4096
"""Boxes of an image worked on by a pair of launches: the first, which most images end with, and each one after it;
powers of 2 and multiples of COLUMNS."""
ROWS, COLUMNS = 64, 128
RUN, MOST_RUNS = 1024, 32
"""Keys that one program sorts; of more runs than this PyTorch sorts the keys."""
KEYS_WARPS, MERGE_WARPS, MASK_WARPS = 8, 4, 8
FEW_MASK_WARPS = "8,192 pairs of 192 boxes in registers: little waits for memory"
FEW_SWEEP_WARPS = "a program an image"


class Padded(NamedTuple):
    """What `launch_padded` suppresses.

    boxes: float32 [N, K, 4] xyxy.
    scores: float32 [N, K], below 0 where there is none.
    classes: int64 or int32 [N, K].
    """

    boxes: Tensor
    scores: Tensor
    classes: Tensor


class _Sorted(NamedTuple):
    """Boxes by descending score with what the suppression writes; places within an image as `launch` has them."""

    boxes: Tensor
    classes: Tensor
    begins: Tensor | None
    counts: Tensor
    kept: Tensor
    number: Tensor
    struck: Tensor


def launch(
    boxes: Tensor, classes: Tensor, begins: Tensor, counts: Tensor, longest: int, threshold: float, most: int
) -> Tensor:
    """Positions kept, among each image's boxes, ascending.

    Args:
        boxes: float32 [T, 4] xyxy, each image's by descending score.
        classes: int64 or int32 [T].
        begins: int64 [N], the first row of each image.
        counts: int32 [N], the rows of each image; at most `longest`.
        longest: bound on the counts, below 4 million (a launch has no more tiles).
        threshold: IoU above which a box suppresses later ones of its class.
        most: columns of the result, the most boxes kept of an image.

    Returns:
        int64 [N, most], -1 where there is none.
    """
    images = len(begins)
    kept = torch.full((images, most), -1, dtype=torch.int64, device=boxes.device)
    if not kept.numel() or not longest:
        return kept
    number, struck = _state(images, longest, boxes.device)
    number.zero_()
    struck.zero_()
    order = _Sorted(boxes.contiguous(), classes.contiguous(), begins, counts, kept, number, struck)
    with torch.cuda.device_of(boxes):
        _suppress(order, longest, threshold, None, None, None, None, (), None)
    return kept


def launch_padded(given: Padded, threshold: float, most: int, columns: Sequence[Tensor] | None = None) -> Tensor:
    """Rows kept of each image, int64 [N, most] by descending score, -1 where there are no more.

    With `columns`, int32 [N, K] each: int32 [N, most, 5 + columns], bits of the rows' boxes and scores, then these.
    """
    images, width = given.scores.shape
    device, packed = given.scores.device, columns is not None
    shape = (images, most, 5 + len(columns)) if columns is not None else (images, most)
    if not images or not width or not most:
        return torch.full(shape, -1, dtype=torch.int32 if packed else torch.int64, device=device)
    out = torch.empty(shape, dtype=torch.int32 if packed else torch.int64, device=device)
    boxes, scores, classes = (x.contiguous() for x in given)
    columns = tuple(x.contiguous() for x in columns or ())
    block = min(RUN, max(int(triton.next_power_of_2(width)), BITS.value))
    parts = triton.cdiv(width, block)
    sort = parts <= MOST_RUNS
    run, runs = (block, parts) if sort else (block * parts, 1)
    keys = torch.empty((images, parts * block), dtype=torch.int64, device=device)
    sizes = torch.empty((images, parts), dtype=torch.int32, device=device)
    placed, rows = torch.empty_like(boxes), torch.empty((images, width), dtype=torch.int32, device=device)
    kept = torch.empty((images, most), dtype=torch.int64, device=device)
    counts = torch.empty(images, dtype=torch.int32, device=device)
    order = _Sorted(placed, torch.empty_like(classes), None, counts, kept, *_state(images, width, device))
    with torch.cuda.device_of(scores):
        _nms_keys_kernel[(parts, images)](scores, keys, sizes, width, RUN=block, SORT=sort, num_warps=KEYS_WARPS)
        if not sort:
            keys = keys.sort(dim=1, descending=True).values
        _nms_merge_kernel[(parts * block // BITS.value, images)](
            keys,
            sizes,
            boxes,
            classes,
            placed,
            order.classes,
            rows,
            counts,
            order.number,
            order.struck,
            out,
            width,
            parts,
            run,
            runs,
            triton.cdiv(width, BITS.value),
            most,
            RUNS=triton.next_power_of_2(runs),
            STEPS=(run - 1).bit_length(),
            COLUMNS=5 + len(columns) if packed else 1,
            num_warps=MERGE_WARPS,
        )
        if packed:
            _suppress(order, width, threshold, rows, None, out, scores, columns, boxes)
        else:
            _suppress(order, width, threshold, rows, out, None, None, (), None)
    return out


def _state(images: int, longest: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Room for how many boxes are kept of each image, and for a bit for each of its boxes.

    Both begin at multiples of 16 bytes: Triton compiles a kernel anew for other pointers.
    """
    room = triton.cdiv(images, 4) * 4
    state = torch.empty(room + images * triton.cdiv(longest, BITS.value), dtype=torch.int32, device=device)
    return state[:room], state[room:]


def _suppress(
    order: _Sorted,
    longest: int,
    threshold: float,
    rows: Tensor | None,
    out_rows: Tensor | None,
    out_packed: Tensor | None,
    scores: Tensor | None,
    columns: tuple[Tensor, ...],
    boxes: Tensor | None,
) -> None:
    """Chunk after chunk, on the current device; `boxes`, `scores` and `columns` are of the rows that `rows` names."""
    images, most = order.kept.shape
    words = triton.cdiv(longest, BITS.value)
    sizes = [min(FIRST_CHUNK, longest)]
    rest = longest - sizes[0]
    sizes += [min(CHUNK, rest - begun) for begun in range(0, rest, CHUNK)]
    chunks = [FIRST_CHUNK] + [CHUNK] * (len(sizes) - 1)
    bits = max(size * chunk for size, chunk in zip(sizes, chunks, strict=True))
    mask = torch.empty(images * bits // BITS.value, dtype=torch.int32, device=order.kept.device)
    first = 0
    for size, chunk in zip(sizes, chunks, strict=True):
        kept_tiles = triton.cdiv(min(first, most), ROWS)
        _nms_mask_kernel[(images, triton.cdiv(size, COLUMNS), kept_tiles + triton.cdiv(size, ROWS))](
            *order,
            mask,
            longest,
            first,
            most,
            kept_tiles,
            words,
            size,
            threshold,
            CHUNK=chunk,
            ROWS=ROWS,
            COLUMNS=COLUMNS,
            num_warps=MASK_WARPS,
            enable_fp_fusion=False,
        )
        _nms_sweep_kernel[(images,)](
            order.counts,
            order.kept,
            order.number,
            order.struck,
            mask,
            rows,
            out_rows,
            out_packed,
            boxes,
            scores,
            columns or None,
            longest,
            first,
            most,
            words,
            size,
            CHUNK=chunk,
            COLUMNS=len(columns),
            num_warps=_sweep_warps(chunk),
        )
        first += size


def _sweep_warps(chunk: int) -> int:
    """Rows of a word's boxes are read at once: 32 words of them a thread."""
    return max(1, min(4, chunk // 1024))


def variants() -> list[Variant]:
    """What is launched: classes of 4 bytes and of 8, both chunks, and every kind of result."""
    state = {"p_counts": "*i32", "p_kept": "*i64", "p_number": "*i32", "p_struck": "*i32"}
    numbers = dict.fromkeys(("width", "first", "most", "kept_tiles", "words", "height"), "i32") | {"threshold": "fp32"}
    kinds: dict[str, Any] = {"p_boxes": "*fp32", "p_begins": "*i64", **state, "p_mask": "*i32", **numbers}
    kinds |= {"p_scores": "*fp32", "p_keys": "*i64", "p_sizes": "*i32", "p_sorted": "*fp32", "p_order": "*i32"}
    kinds |= {"p_rows": "*i64", "p_packed": "*i32", "p_columns": ("*i32",) * 3}
    kinds |= dict.fromkeys(("sizes", "run", "runs"), "i32")

    def variant(kernel: Any, name: str, constants: dict[str, Any], warps: int, own: dict[str, Any]) -> Variant:
        types = {**kinds, **own, **dict.fromkeys(constants, "constexpr")}
        signature = {key: types[key] for key in kernel.arg_names}
        aligned = tuple(key for key in signature if key.startswith("p_") and key not in constants)
        fused = kernel is not _nms_mask_kernel
        few = {_nms_mask_kernel: FEW_MASK_WARPS, _nms_sweep_kernel: FEW_SWEEP_WARPS}.get(kernel, "")
        return Variant(kernel, name, "float32", signature, constants, aligned, warps, fused=fused, few_warps=few)

    constants: dict[str, Any] = {"RUN": RUN, "SORT": True}
    variants = [variant(_nms_keys_kernel, "", constants, KEYS_WARPS, {})]
    for name, kind, out in (("int32 classes, packed", "*i32", "*i32"), ("int64 classes, rows", "*i64", "*i64")):
        constants = {"RUNS": 8, "STEPS": 10, "COLUMNS": 8 if out == "*i32" else 1}
        types = {"p_classes": kind, "p_sorted_classes": kind, "p_out": out}
        variants.append(variant(_nms_merge_kernel, name, constants, MERGE_WARPS, types))
    packing = ("p_packed", "p_boxes", "p_scores", "p_columns")
    missing: tuple[str, ...]
    for chunk in (FIRST_CHUNK, CHUNK):
        said = f"chunks of {chunk}, "
        for name, kind, missing in (("int32 classes", "*i32", ("p_begins",)), ("int64 classes", "*i64", ())):
            constants = {"CHUNK": chunk, "ROWS": ROWS, "COLUMNS": COLUMNS, **dict.fromkeys(missing)}
            variants.append(variant(_nms_mask_kernel, said + name, constants, MASK_WARPS, {"p_classes": kind}))
        for name, columns, missing in (
            ("packed", 3, ("p_rows",)),
            ("rows", 0, packing),
            ("positions", 0, ("p_order", "p_rows", *packing)),
        ):
            constants = {"CHUNK": chunk, "COLUMNS": columns, **dict.fromkeys(missing)}
            variants.append(variant(_nms_sweep_kernel, said + name, constants, _sweep_warps(chunk), {}))
    return variants
