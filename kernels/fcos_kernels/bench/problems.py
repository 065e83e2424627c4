"""The sizes at which ops are timed: a COCO training step, a small one and a crowded one; and ground truth of them."""

from dataclasses import dataclass

import torch
from torch import Tensor

STRIDES = (8, 16, 32, 64, 128)
STARTS = tuple(stride // 2 for stride in STRIDES)
RANGES = ((0.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, 512.0), (512.0, float("inf")))
CLASSES, CHANNELS, GROUPS = 80, 256, 32
COCO_BOXES = 7.3


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


def dtype_name(dtype: torch.dtype) -> str:
    """Without "torch."."""
    return str(dtype).removeprefix("torch.")


def layout_name(layout: torch.memory_format) -> str:
    """As results call it."""
    return "channels-last" if layout == torch.channels_last else "contiguous"
