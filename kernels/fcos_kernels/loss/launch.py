"""Launches the Triton kernels of `detection_loss` and `focal_loss`. They lie in `triton_forward.py`."""

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from fcos_kernels.common.levels import EXACT, MOST_IMAGES, begins, floats
from fcos_kernels.common.outputs import Outputs
from fcos_kernels.common.tensors import is_last
from fcos_kernels.common.variants import POINTERS, Variant
from fcos_kernels.loss import launch_backward
from fcos_kernels.loss.triton_forward import _detection_loss_add_kernel, _detection_loss_fwd_kernel
from fcos_kernels.loss.types import FLOAT16_GAIN, AssignedTargets, Gradients, Settings

TILE = 2048
"""Logits of a program."""
BOX_BLOCK = 128
WARPS = 4
FEW_WARPS = "bound by its instructions; four programs an SM have 16 KB or more of logits on their way"
ADD_BLOCK, ADD_WARPS = 1024, 4


class _Cut(NamedTuple):
    """How class logits are cut into programs: constants of the forward kernel."""

    CLASSES: int
    CLASSES_LAST: bool
    WIDE: int
    TILE_C: int
    TILE_L: int
    NEAR: int

    @staticmethod
    def of(classes: int, last: bool, size: int, cells: Sequence[int]) -> "_Cut":
        """Tiles of few classes where 8 would leave much of a tile empty; `NEAR`: locations that share a line.

        `WIDE` is 16 bytes, but half of that where planes that matter are not multiples of it, as those of P4 may be.
        """
        tile_c = 8 if classes % 8 == 0 or classes > 32 else min(4, triton.next_power_of_2(classes))
        near = triton.next_power_of_2((TILE - 1) // max(classes, 1) + 2)
        wide = 16 // size
        if not last and sum(own for own in cells if own % wide) * 8 > sum(cells):
            wide = 4
        return _Cut(classes, last, wide, tile_c, TILE // tile_c, near)

    def programs(self, cells: int) -> int:
        """For one image of a level with so many cells."""
        if self.CLASSES_LAST:
            return triton.cdiv(cells * self.CLASSES, TILE)
        tiles = triton.cdiv(cells, self.TILE_L) * triton.cdiv(self.CLASSES, self.TILE_C)
        return tiles if cells % self.WIDE == 0 else triton.cdiv(cells * self.CLASSES, TILE)


def supports(outputs: Outputs, boxes: int) -> bool:
    """Whether the kernels take these: no float64, one dtype for all levels of an output, sizes that can be counted."""
    if not outputs.suit_triton():
        return False
    cells = [x.shape[2] * x.shape[3] for x in outputs.classes]
    images, classes = outputs.classes[0].shape[:2]
    countable = images * sum(cells) * max(classes // 128, 1) < EXACT and max(cells) * max(classes, 4) < 2**30
    return countable and images < MOST_IMAGES and boxes < EXACT


def launch(outputs: Outputs, targets: AssignedTargets, settings: Settings, gradients: Gradients) -> tuple[Tensor, ...]:
    """The three losses, float32 scalars. Writes all of `gradients`, or those buffers that are there.

    `outputs` are dense (`Outputs.dense`) and supported; all has passed the checks of `detection_loss`.
    """
    classes = outputs.classes
    images, channels = classes[0].shape[:2]
    cells = [x.shape[2] * x.shape[3] for x in classes]
    cut = _Cut.of(channels, is_last(classes), classes[0].element_size(), cells)
    box_programs = [triton.cdiv(own, BOX_BLOCK) for own in cells]
    class_programs = [cut.programs(own) for own in cells]
    boxes, programs = sum(box_programs), sum(box_programs) + sum(class_programs)
    parts = torch.empty((programs + 2 * boxes) * images, dtype=torch.float32, device=classes[0].device)
    losses = tuple(parts.new_empty(()) for _ in range(3))
    columns = [x.shape[3] for x in classes]
    levels: tuple[Sequence[float], ...] = (cells, *(begins(x) for x in (cells, box_programs, class_programs)), columns)
    levels = (*levels, settings.strides, settings.starts, settings.units)
    with torch.cuda.device_of(parts):
        if len(parts):
            _detection_loss_fwd_kernel[(programs, images)](
                tuple(classes),
                tuple(gradients.classes) or None,
                tuple(outputs.boxes),
                tuple(gradients.boxes) or None,
                tuple(outputs.qualities) or None,
                tuple(gradients.qualities) or None,
                outputs.scales.contiguous(),
                targets.index.contiguous(),
                targets.boxes.contiguous(),
                targets.labels.contiguous(),
                targets.positives,
                targets.box_normalizer,
                parts,
                floats(*levels),
                *floats((sum(cells), boxes, len(targets.boxes))),
                float(settings.alpha),
                float(settings.iou_smoothing),
                FLOAT16_GAIN if classes[0].dtype == torch.float16 else 1.0,
                LEVELS=len(classes),
                BOXES_LAST=is_last(outputs.boxes),
                GAMMA=float(settings.gamma),
                EXP=settings.activation == "exp",
                KIND=settings.box_loss,
                WEIGHTED=settings.box_weight == "centerness",
                LEARN_IOU=settings.quality == "iou",
                BOX_BLOCK=BOX_BLOCK,
                num_warps=WARPS,
                **cut._asdict(),
            )
        _add(
            parts,
            losses,
            gradients.scales,
            targets.positives,
            targets.box_normalizer,
            [images * own for own in box_programs],
        )
    return losses


def supports_focal(logits: Tensor) -> bool:
    """Whether `launch_focal` takes these."""
    return logits.dtype != torch.float64 and len(logits) < EXACT and logits.numel() < 2**30


def launch_focal(logits: Tensor, labels: Tensor, alpha: float, gamma: float, gradient: Tensor | None = None) -> Tensor:
    """Sum of the focal loss of contiguous logits [M, C] with labels int32 [M]; writes the gradient. No normaliser."""
    cut = _Cut.of(logits.shape[1], True, logits.element_size(), [len(logits)])
    programs = cut.programs(len(logits))
    parts = torch.empty(programs, dtype=torch.float32, device=logits.device)
    loss = parts.new_empty(())
    with torch.cuda.device_of(parts):
        if programs:
            _detection_loss_fwd_kernel[(programs, 1)](
                (logits,),
                None if gradient is None else (gradient,),
                *[None] * 5,
                labels.contiguous(),
                *[None] * 4,
                parts,
                floats([len(logits)], *[[0]] * 7),
                *floats((len(logits), 0, 0)),
                float(alpha),
                0.0,
                1.0,
                LEVELS=1,
                BOXES_LAST=False,
                GAMMA=float(gamma),
                EXP=False,
                KIND="",
                WEIGHTED=False,
                LEARN_IOU=False,
                BOX_BLOCK=BOX_BLOCK,
                num_warps=WARPS,
                **cut._asdict(),
            )
        _add(parts, (loss,), None, None, None, [])
    return loss


def _add(
    parts: Tensor,
    losses: tuple[Tensor, ...],
    scale_grad: Tensor | None,
    positives: Tensor | None,
    box_normalizer: Tensor | None,
    box_programs: list[int],
) -> None:
    """Sums of box, quality and scale parts, a place of each for each box program, then class parts."""
    boxes = sum(box_programs)
    ends = [(3 * boxes, len(parts)), (0, boxes), (boxes, 2 * boxes)][: len(losses)]
    if scale_grad is not None:
        ends += pairwise(2 * boxes + done for done in accumulate(box_programs, initial=0))
    _detection_loss_add_kernel[(len(ends),)](
        parts,
        losses,
        scale_grad,
        positives,
        box_normalizer,
        floats(*zip(*ends, strict=True)),
        SUMS=len(ends),
        LOSSES=len(losses),
        BLOCK=ADD_BLOCK,
        num_warps=ADD_WARPS,
    )


def variants() -> list[Variant]:
    """Five levels of 80 classes in both memory formats; of bfloat16 also without gradients, and what else there is."""
    levels = 5
    variants = []
    for dtype in POINTERS:
        variants.append(_variant("contiguous", dtype, levels, 80, False, "giou", 2.0, True))
        variants.append(_variant("channels-last", dtype, levels, 80, True, "giou", 2.0, True))
    for name, classes, last, kind, gamma, grad in (
        ("contiguous, no gradient", 80, False, "giou", 2.0, False),
        ("channels-last, no gradient", 80, True, "giou", 2.0, False),
        ("contiguous, 91 classes, -log IoU", 91, False, "iou", 2.0, True),
        ("channels-last, 91 classes, CIoU, gamma 1.5", 91, True, "ciou", 1.5, True),
    ):
        variants.append(_variant(name, "bfloat16", levels, classes, last, kind, gamma, grad))
    variants.append(_variant("focal loss alone", "bfloat16", 1, 80, True, "", 2.0, True))
    constants = {"SUMS": levels + 3, "LOSSES": 3, "BLOCK": ADD_BLOCK}
    signature: dict[str, Any] = {"p_parts": "*fp32", "p_losses": ("*fp32",) * 3}
    signature |= dict.fromkeys(("p_scale_grad", "p_positives", "p_normalizer"), "*fp32")
    signature |= {"ends": (("fp32",) * (levels + 3),) * 2}
    aligned = tuple(name for name in signature if name != "ends")
    signature |= dict.fromkeys(constants, "constexpr")
    variants.append(Variant(_detection_loss_add_kernel, "", "float32", signature, constants, aligned, ADD_WARPS))
    return variants + launch_backward.variants(levels)


def _variant(
    name: str,
    dtype: str,
    levels: int,
    classes: int,
    last: bool,
    kind: str,
    gamma: float,
    grad: bool,
) -> Variant:
    """The forward kernel; with kind "" as `launch_focal` launches it."""
    pointer = POINTERS[dtype]
    few = "*fp32" if dtype == "float16" else pointer
    tuples = {
        "p_classes": pointer,
        "p_class_grads": pointer,
        "p_boxes_out": pointer,
        "p_box_grads": few,
        "p_qualities": pointer,
        "p_quality_grads": few,
    }
    singles = {"p_scales": "*fp32", "p_index": "*i32", "p_boxes": "*fp32", "p_labels": "*i32"}
    singles |= dict.fromkeys(("p_positives", "p_normalizer", "p_parts"), "*fp32")
    signature: dict[str, Any] = {argument: (kind_of,) * levels for argument, kind_of in tuples.items()} | singles
    aligned = tuple(signature)
    signature |= {"levels": (("fp32",) * levels,) * 8, "counts": ("fp32",) * 3}
    signature |= dict.fromkeys(("alpha", "smoothing", "gain"), "fp32")
    absent: list[str] = [] if grad else ["p_class_grads", "p_box_grads", "p_quality_grads"]
    if not kind:
        absent += ["p_boxes_out", "p_box_grads", "p_qualities", "p_quality_grads"]
        absent += ["p_scales", "p_boxes", "p_labels", "p_positives", "p_normalizer"]
    cut = _Cut.of(classes, last, 4 if dtype == "float32" else 2, [])
    constants: dict[str, Any] = dict.fromkeys(absent)
    constants |= {"LEVELS": levels, "BOXES_LAST": last, "GAMMA": gamma, "EXP": False, "KIND": kind}
    constants |= {"WEIGHTED": False, "LEARN_IOU": False, "BOX_BLOCK": BOX_BLOCK, **cut._asdict()}
    signature |= dict.fromkeys(constants, "constexpr")
    signature = {argument: signature[argument] for argument in _detection_loss_fwd_kernel.arg_names}
    aligned = tuple(argument for argument in aligned if argument not in absent)
    found = Variant(_detection_loss_fwd_kernel, name, dtype, signature, constants, aligned, WARPS, ("p_classes",))
    return found._replace(few_warps=FEW_WARPS)
