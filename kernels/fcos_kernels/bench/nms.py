"""The cases of `batched_nms`: crowded images, the best 100 of each.

Rivals: eager, one kept box after another against all that is left, image by image, and torchvision's `batched_nms`.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from fcos_kernels.bench import eager, torchvision_ops
from fcos_kernels.bench.case import Case
from fcos_kernels.bench.problems import CLASSES
from fcos_kernels.bench.timing import Work
from fcos_kernels.nms import batched_nms

THRESHOLD, MOST = 0.6, 100
WIDTH, HEIGHT = 1333.0, 800.0
OBJECTS = 60


def cases(device: torch.device, with_compile: bool) -> Iterator[Case]:
    """16 images of 5,000 candidates (on a CPU 2 of them) and one of 10,000."""
    for images, count in ((16 if device.type == "cuda" else 2, 5000), (1, 10_000)):
        yield _nms_case(images, count, device)


def candidates(images: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Boxes [N, K, 4], scores [N, K] and labels int32 [N, K] around OBJECTS objects an image."""
    rng = torch.Generator().manual_seed(4)
    centre = torch.rand(images, OBJECTS, 2, generator=rng) * torch.tensor([WIDTH, HEIGHT])
    side = torch.exp(torch.randn(images, OBJECTS, 2, generator=rng) * 0.6 + 4.4)
    label = torch.randint(CLASSES, (images, OBJECTS), generator=rng, dtype=torch.int32)
    own = torch.randint(OBJECTS, (images, count), generator=rng)
    pick = own[:, :, None].expand(-1, -1, 2)
    moved = torch.randn(images, count, 2, generator=rng) * 0.15
    sides = side.gather(1, pick) * torch.exp(torch.randn(images, count, 2, generator=rng) * 0.15)
    corner = centre.gather(1, pick) + moved * sides - sides / 2
    # scores differ, so that rivals that know no ties agree
    scores = torch.stack([torch.randperm(count, generator=rng) for _ in range(images)]).float() / count
    return torch.cat([corner, corner + sides], dim=2), scores, label.gather(1, own)


def _nms_case(images: int, count: int, device: torch.device) -> Case:
    boxes, scores, labels = (x.to(device) for x in candidates(images, count))

    def ours() -> Tensor:
        return batched_nms(boxes, scores, labels, THRESHOLD, MOST)

    def usual() -> list[Tensor]:
        return [eager.nms(*one, THRESHOLD, MOST) for one in zip(boxes, scores, labels, strict=True)]

    def compare() -> None:
        kept = ours()
        for mine, wanted in zip(kept, usual(), strict=True):
            torch.testing.assert_close(mine[mine >= 0], wanted, rtol=0, atol=0)

    rivals: dict[str, Work] = {"eager": usual}
    theirs = torchvision_ops.nms()
    if theirs is not None:
        rivals["torchvision"] = lambda: [
            theirs(b, s, c, THRESHOLD)[:MOST] for b, s, c in zip(boxes, scores, labels, strict=True)
        ]
    read = boxes.nbytes + scores.nbytes + labels.nbytes
    return Case("nms", f"crowded: {images} x {count} candidates", read + 8 * images * MOST, ours, compare, rivals)
