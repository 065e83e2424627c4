"""The locations of a pyramid by index arithmetic, and what a location and its box define: distances and centre-ness."""

from collections.abc import Sequence

import torch
from torch import Tensor


def split_locations(location: Tensor, columns: int, stride: int, start: int) -> tuple[Tensor, Tensor]:
    """Pixel coordinates x and y, float32, of row-major locations int64 [K] of one level."""
    x = start + (location % columns) * stride
    y = start + torch.div(location, columns, rounding_mode="floor") * stride
    return x.float(), y.float()


def distances(boxes: Tensor, x: Tensor, y: Tensor) -> Tensor:
    """[K, 4] l, t, r, b in pixels from locations (x, y) to the sides of their boxes [K, 4] xyxy."""
    x0, y0, x1, y1 = boxes.unbind(1)
    return torch.stack([x - x0, y - y0, x1 - x, y1 - y], dim=1)


def centerness(distance: Tensor) -> Tensor:
    """sqrt(min(l, r) / max(l, r) * min(t, b) / max(t, b)) of distances [K, 4]; in [0, 1], 0 where a side is 0."""
    l, t, r, b = distance.unbind(1)  # noqa: E741
    across = torch.minimum(l, r) / torch.maximum(l, r)
    along = torch.minimum(t, b) / torch.maximum(t, b)
    return (across * along).nan_to_num_(0.0).clamp_(0, 1).sqrt_()


def positives_by_level(index: Tensor, grids: Sequence[tuple[int, int]]) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(image, location within the level, row of the boxes), int64 each, of the positives of every level.

    index: int32 [N, L]. Order: by image, then location.
    """
    by_level = []
    begin = 0
    for rows, columns in grids:
        part = index[:, begin : begin + rows * columns]
        image, location = (part >= 0).nonzero(as_tuple=True)
        by_level.append((image, location, part[image, location].long()))
        begin += rows * columns
    return by_level
