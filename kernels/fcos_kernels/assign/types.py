"""What the implementations of `assign` take, beside boxes."""

from collections.abc import Sequence
from typing import NamedTuple


class Rule(NamedTuple):
    """The levels and how they share the boxes; as `assign` explains it, and with its defaults."""

    grids: Sequence[tuple[int, int]]
    strides: Sequence[int]
    starts: Sequence[int]
    ranges: Sequence[tuple[float, float]]
    radius: float = 0.0
    inclusive: bool = True
    count_candidates: bool = False
