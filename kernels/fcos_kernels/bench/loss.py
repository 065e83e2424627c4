"""The cases of `detection_loss`: forward and backward. Rivals: eager, compiled, and eager with torchvision's losses."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fcos_kernels.assign import assign
from fcos_kernels.bench import eager, problems, torchvision_ops
from fcos_kernels.bench.case import Case
from fcos_kernels.bench.problems import (
    CLASSES,
    RANGES,
    STARTS,
    STRIDES,
    Size,
    dtype_name,
    ground_truth,
    layout_name,
    offsets_of,
)
from fcos_kernels.bench.timing import Work
from fcos_kernels.loss import detection_loss


def cases(device: torch.device, with_compile: bool) -> Iterator[Case]:
    """The loss and its gradient: forward and backward."""
    for size in problems.sizes(device):
        layouts = [(torch.bfloat16, torch.channels_last), (torch.float32, torch.contiguous_format)]
        if size.name == "COCO":
            layouts += [(torch.bfloat16, torch.contiguous_format), (torch.float32, torch.channels_last)]
        for dtype, layout in layouts:
            yield _loss_case(size, dtype, layout, device, with_compile)


def _loss_case(
    size: Size, dtype: torch.dtype, layout: torch.memory_format, device: torch.device, with_compile: bool
) -> Case:
    boxes, labels = ground_truth(size, device)
    offsets = offsets_of(boxes, device)
    joined, joined_labels = torch.cat(boxes), torch.cat(labels)
    assigned = assign(joined, offsets, grids=size.grids, strides=STRIDES, starts=STARTS, ranges=RANGES)
    own = torch.where(assigned.index >= 0, assigned.index - offsets[:-1, None], -1)
    points = eager.locations(size.grids, STRIDES, STARTS).to(device)
    units = torch.cat(
        [torch.full((rows * columns,), float(s)) for (rows, columns), s in zip(size.grids, STRIDES, strict=True)]
    ).to(device)
    rng = torch.Generator().manual_seed(1)

    def outputs(channels: int, shift: float, spread: float = 1.0) -> list[Tensor]:
        made = []
        for rows, columns in size.grids:
            x = torch.randn(size.images, channels, rows, columns, generator=rng) * spread + shift
            made.append(x.to(device, dtype).contiguous(memory_format=layout).requires_grad_())
        return made

    # no distance at the kink of the ReLU, where gradients are a matter of taste
    classes, distances, quality = outputs(CLASSES, -4.6), outputs(4, 3.0, 0.4), outputs(1, 0.0)
    scales = torch.ones(len(STRIDES), device=device, requires_grad=True)
    inputs = [*classes, *distances, *quality]
    count = assigned.positives.clamp(min=1)

    def losses() -> tuple[Tensor, Tensor, Tensor]:
        return detection_loss(
            classes,
            distances,
            quality,
            scales,
            index=assigned.index,
            boxes=joined,
            labels=joined_labels,
            strides=STRIDES,
            starts=STARTS,
            units=STRIDES,
            activation="relu",
            box_loss="giou",
            box_weight="none",
            iou_smoothing=0.0,
            quality="centerness",
            alpha=0.25,
            gamma=2.0,
            positives=count,
            box_normalizer=count,
        )

    def usual(
        focal_loss: eager.Loss = eager.focal, box_loss: eager.Loss = eager.giou, exact: list[Tensor] | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        given, levels = exact or inputs, len(STRIDES)
        return eager.detection_loss(
            given[:levels],
            given[levels : 2 * levels],
            given[2 * levels :],
            index=own,
            boxes=boxes,
            labels=labels,
            points=points,
            units=units,
            focal_loss=focal_loss,
            box_loss=box_loss,
        )

    def gradients(function: Callable[..., tuple[Tensor, ...]], *how: eager.Loss) -> tuple[Tensor, ...]:
        parts = function(*how)
        return torch.autograd.grad(parts[0] + parts[1] + parts[2], inputs)

    rivals: dict[str, Work] = {"eager": lambda: gradients(usual)}
    if with_compile:
        compiled = torch.compile(usual)
        rivals["compiled"] = lambda: gradients(compiled)
    theirs = torchvision_ops.losses()
    if theirs is not None:
        rivals["torchvision"] = lambda: gradients(usual, *theirs)

    def compare() -> None:
        # eager's own bfloat16 arithmetic is off by more than its rounding
        exact = [x.detach().float().requires_grad_() for x in inputs]
        wanted = usual(exact=exact)
        for mine, other in zip(losses(), wanted, strict=True):
            torch.testing.assert_close(mine.float(), other, rtol=1e-4, atol=1e-6)
        slopes = torch.autograd.grad(wanted[0] + wanted[1] + wanted[2], exact)
        relative = 1e-3 if dtype == torch.float32 else 1e-2
        for mine, other in zip(gradients(losses), slopes, strict=True):
            scale = float(other.abs().max()) or 1.0
            torch.testing.assert_close(mine.float() / scale, other / scale, rtol=relative, atol=1e-4)

    logits = sum(x.numel() * x.element_size() for x in inputs)
    name = f"{size}, {dtype_name(dtype)} {layout_name(layout)}"
    return Case("detection_loss", name, 2 * logits, lambda: gradients(losses), compare, rivals)
