"""The cases of `assign`. Rivals: eager, dense matching image by image, and the same compiled."""

from collections.abc import Iterator

import torch
from torch import Tensor

from fcos_kernels.assign import assign
from fcos_kernels.bench import eager, problems
from fcos_kernels.bench.case import Case
from fcos_kernels.bench.problems import RANGES, STARTS, STRIDES, Size, ground_truth, offsets_of
from fcos_kernels.bench.timing import Work


def cases(device: torch.device, with_compile: bool) -> Iterator[Case]:
    """Assignment of a batch."""
    for size in problems.sizes(device):
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

    rivals: dict[str, Work] = {"eager": usual}
    if with_compile:
        matching = torch.compile(eager.match_image, dynamic=True)
        rivals["compiled"] = lambda: [matching(own, points, lower, upper) for own in boxes if len(own)]
    written = 4 * size.images * size.locations
    return Case("assign", str(size), written + 16 * len(joined), ours, compare, rivals)
