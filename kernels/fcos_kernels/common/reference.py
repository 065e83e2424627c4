"""What the references of several ops need, straight from its definition, float64."""

from collections.abc import Sequence

import torch
from torch import Tensor


def locations(grids: Sequence[tuple[int, int]], strides: Sequence[int], starts: Sequence[int]) -> Tensor:
    """[L, 3] x, y and level of every location, float64."""
    rows = [
        (start + column * stride, start + row * stride, level)
        for level, ((height, width), stride, start) in enumerate(zip(grids, strides, starts, strict=True))
        for row in range(height)
        for column in range(width)
    ]
    return torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)


def centerness(distance: Tensor) -> Tensor:
    """Centre-ness of distances [K, 4] l, t, r, b."""
    l, t, r, b = distance.unbind(1)  # noqa: E741
    across = torch.minimum(l, r) / torch.maximum(l, r)
    return (across * torch.minimum(t, b) / torch.maximum(t, b)).sqrt()
