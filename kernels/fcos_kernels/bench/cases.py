"""What is timed: each op at the size of a COCO training step, at a small one and at a crowded one.

A case holds our op, its rivals (eager, compiled, torchvision where it imports), the bytes that must move, and a check
of the numbers that comes before any clock.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from torch import Tensor

from fcos_kernels.assign import assign
from fcos_kernels.bench import eager
from fcos_kernels.bench.timing import Work
from fcos_kernels.loss import detection_loss

STRIDES = (8, 16, 32, 64, 128)
STARTS = tuple(stride // 2 for stride in STRIDES)
RANGES = ((0.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, 512.0), (512.0, float("inf")))
CLASSES, CHANNELS, GROUPS = 80, 256, 32
COCO_BOXES = 7.3


@dataclass(frozen=True)
class Case:
    """One op at one size.

    Attributes:
        bytes: read and written at the least.
        ours: runs our op.
        rivals: name -> the same done otherwise.
        compare: raises AssertionError unless all agree.
    """

    op: str
    size: str
    bytes: int
    ours: Work
    compare: Callable[[], None]
    rivals: dict[str, Work] = field(default_factory=dict)


@dataclass(frozen=True)
class Size:
    """Images of height x width pixels with `boxes` boxes each on average."""

    name: str
    images: int
    height: int
    width: int
    boxes: float

    @property
    def grids(self) -> list[tuple[int, int]]:
        return [(-(-self.height // stride), -(-self.width // stride)) for stride in STRIDES]

    @property
    def locations(self) -> int:
        return sum(rows * columns for rows, columns in self.grids)

    def __str__(self) -> str:
        return f"{self.name}: {self.images} x {self.height}x{self.width}, {self.boxes:g} boxes each"


def sizes(device: torch.device) -> list[Size]:
    """COCO's training step (of two images on a CPU), a small and a crowded one."""
    images = 16 if device.type == "cuda" else 2
    return [
        Size("COCO", images, 800, 1344, COCO_BOXES),
        Size("small", images, 256, 320, 3),
        Size("crowded", min(images, 4), 800, 1344, 2000),
    ]


def ground_truth(size: Size, device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
    """Boxes float32 [G, 4] and labels int32 [G] per image: log-normal sides, about COCO's, anywhere."""
    rng = torch.Generator().manual_seed(0)
    rates = torch.full((size.images,), float(size.boxes))
    counts = torch.poisson(rates, generator=rng).long().tolist()
    if size.boxes == int(size.boxes):
        counts = [int(size.boxes)] * size.images
    boxes, labels = [], []
    for count in counts:
        side = torch.exp(torch.randn(count, 2, generator=rng) * 0.8 + 4.4).clamp(4, min(size.height, size.width) - 1)
        corner = torch.rand(count, 2, generator=rng) * (torch.tensor([size.width, size.height]) - side)
        boxes.append(torch.cat([corner, corner + side], dim=1).to(device))
        labels.append(torch.randint(CLASSES, (count,), generator=rng, dtype=torch.int32).to(device))
    return boxes, labels


def offsets_of(boxes: list[Tensor], device: torch.device) -> Tensor:
    """int64 [N + 1]."""
    counts = torch.tensor([0, *(len(own) for own in boxes)])
    return counts.cumsum(0).to(device)


def assign_cases(device: torch.device, with_compile: bool) -> Iterator[Case]:
    """Assignment of a batch."""
    for size in sizes(device):
        yield _assign_case(size, device, with_compile)


def _assign_case(size: Size, device: torch.device, with_compile: bool) -> Case:
    boxes, _ = ground_truth(size, device)
    offsets, joined = offsets_of(boxes, device), torch.cat(boxes)
    points = eager.locations(size.grids, STRIDES, STARTS).to(device)
    lower, upper = (x.to(device) for x in eager.level_limits(size.grids, RANGES))

    def usual() -> Tensor:
        return eager.assign(boxes, points, lower, upper)

    def ours() -> Tensor:
        return assign(joined, offsets, grids=size.grids, strides=STRIDES, starts=STARTS, ranges=RANGES).index

    def compare() -> None:
        rows = usual()
        wanted = torch.where(rows >= 0, rows + offsets[:-1, None], -1)
        torch.testing.assert_close(ours().long(), wanted, rtol=0, atol=0)

    found: dict[str, Work] = {"eager": usual}
    if with_compile:
        matching = torch.compile(eager.match_image, dynamic=True)
        found["compiled"] = lambda: [matching(own, points, lower, upper) for own in boxes if len(own)]
    written = 4 * size.images * size.locations
    return Case("assign", str(size), written + 16 * len(joined), ours, compare, found)


def loss_cases(device: torch.device, with_compile: bool) -> Iterator[Case]:
    """The loss and its gradient: forward and backward."""
    for size in sizes(device):
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

    found: dict[str, Work] = {"eager": lambda: gradients(usual)}
    if with_compile:
        compiled = torch.compile(usual)
        found["compiled"] = lambda: gradients(compiled)
    theirs = torchvision_losses()
    if theirs is not None:
        found["torchvision"] = lambda: gradients(usual, *theirs)

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
    name = f"{size}, {str(dtype).removeprefix('torch.')} {_layout_name(layout)}"
    return Case("detection_loss", name, 2 * logits, lambda: gradients(losses), compare, found)


def torchvision_nms() -> Callable[..., Tensor] | None:
    """torchvision's `batched_nms`; None where it does not import."""
    try:
        from torchvision.ops import batched_nms
    except (ImportError, RuntimeError):
        return None
    found: Callable[..., Tensor] = batched_nms
    return found


def torchvision_losses() -> tuple[eager.Loss, eager.Loss] | None:
    """torchvision's focal and GIoU loss; None where it does not import."""
    try:
        from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss
    except (ImportError, RuntimeError):
        return None
    return sigmoid_focal_loss, generalized_box_iou_loss


def norm_cases(device: torch.device, with_compile: bool) -> Iterator[Case]:
    """GroupNorm and ReLU of one layer of a tower, forward and backward."""
    from fcos_kernels.group_norm_relu import group_norm_relu

    for size in sizes(device)[:2]:
        for dtype in (torch.bfloat16, torch.float32):
            for layout in (torch.channels_last, torch.contiguous_format):
                rng = torch.Generator().manual_seed(2)
                inputs = [
                    torch.randn(size.images, CHANNELS, *grid, generator=rng)
                    .to(device, dtype)
                    .contiguous(memory_format=layout)
                    .requires_grad_()
                    for grid in size.grids
                ]
                incoming = [torch.randn_like(x) for x in inputs]
                weight = (torch.rand(CHANNELS, generator=rng) + 0.5).to(device).requires_grad_()
                bias = torch.randn(CHANNELS, generator=rng).to(device).requires_grad_()
                yield _norm_case(size, inputs, incoming, (weight, bias), group_norm_relu, with_compile)


def _norm_case(
    size: Size,
    inputs: list[Tensor],
    incoming: list[Tensor],
    affine: tuple[Tensor, Tensor],
    fused: Callable[..., list[Tensor]],
    with_compile: bool,
) -> Case:
    def run(
        function: Callable[..., list[Tensor]], xs: list[Tensor] = inputs, slopes: list[Tensor] = incoming
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        outputs = function(xs, *affine, groups=GROUPS)
        return outputs, torch.autograd.grad(outputs, [*xs, *affine], slopes)

    found: dict[str, Work] = {"eager": lambda: run(eager.group_norm_relu)}
    if with_compile:
        compiled = torch.compile(eager.group_norm_relu)
        found["compiled"] = lambda: run(compiled)

    def compare() -> None:
        # eager in bfloat16 is off by 5e-3 itself
        exact = [x.detach().float().requires_grad_() for x in inputs]
        wanted = run(eager.group_norm_relu, exact, [x.float() for x in incoming])
        for mine, other in zip(_flat(run(fused)), _flat(wanted), strict=True):
            scale = float(other.detach().abs().max()) or 1.0
            gap = float((mine.detach().float() - other.detach()).abs().mean()) / scale
            assert gap < (1e-5 if inputs[0].dtype == torch.float32 else 5e-3), (
                f"mean difference {gap:.2g} of {scale:.3g}"
            )

    moved = sum(x.numel() * x.element_size() for x in inputs)
    layout = torch.contiguous_format if all(x.is_contiguous() for x in inputs) else torch.channels_last
    name = f"{size}, {str(inputs[0].dtype).removeprefix('torch.')} {_layout_name(layout)}"
    # forward: x twice, y once; backward: x and dy twice, dx once
    return Case("group_norm_relu", name, 8 * moved, lambda: run(fused), compare, found)


def _flat(result: tuple[list[Tensor], tuple[Tensor, ...]]) -> list[Tensor]:
    return [*result[0], *result[1]]


def decode_cases(device: torch.device, with_compile: bool) -> Iterator[Case]:
    """Decoding of a batch; the module imports this one."""
    from fcos_kernels.bench import postprocess

    yield from postprocess.decode_cases(device, with_compile)


def postprocess_cases(device: torch.device, with_compile: bool) -> Iterator[Case]:
    """All that follows the network; the module imports this one."""
    from fcos_kernels.bench import postprocess

    yield from postprocess.postprocess_cases(device, with_compile)


def nms_cases(device: torch.device, with_compile: bool) -> Iterator[Case]:
    """Suppression in crowded images; the module imports this one."""
    from fcos_kernels.bench import nms_cases as own

    yield from own.nms_cases(device, with_compile)


def _layout_name(layout: torch.memory_format) -> str:
    return "channels-last" if layout == torch.channels_last else "contiguous"


CASES: dict[str, Callable[[torch.device, bool], Iterator[Case]]] = {
    "assign": assign_cases,
    "detection_loss": loss_cases,
    "group_norm_relu": norm_cases,
    "decode": decode_cases,
    "nms": nms_cases,
    "postprocess": postprocess_cases,
}
