"""The feature pyramid as geometry: levels, strides, ranges, grids, locations. The one place that knows them.

FCOS paper sections 3.1 and 3.2; docs/method.md, Locations. Imports no torch, so that data-set statistics start fast.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

MIN_LEVEL, MAX_LEVEL = 2, 7
LocationOrigin = Literal["half_stride", "corner"]


@dataclass(frozen=True, slots=True)
class Level:
    """One pyramid level: P3 has index 3 and stride 8. `lower` and `upper` bound max(l, t, r, b) in input pixels."""

    index: int
    lower: float
    upper: float

    @property
    def name(self) -> str:
        return f"P{self.index}"

    @property
    def stride(self) -> int:
        return 1 << self.index


@dataclass(frozen=True, slots=True)
class Pyramid:
    """The levels in ascending order, and where in its cell a location lies.

    `origin` is "half_stride" (x = floor(s/2) + i s: the paper) or "corner" (x = i s: torchvision).
    """

    levels: tuple[Level, ...]
    origin: LocationOrigin = "half_stride"

    @property
    def strides(self) -> tuple[int, ...]:
        return tuple(level.stride for level in self.levels)

    @property
    def ranges(self) -> tuple[tuple[float, float], ...]:
        return tuple((level.lower, level.upper) for level in self.levels)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(level.name for level in self.levels)

    @property
    def starts(self) -> tuple[int, ...]:
        """Coordinate, in pixels, of each level's first location along either axis."""
        return tuple(stride // 2 if self.origin == "half_stride" else 0 for stride in self.strides)

    def grids(self, height: int, width: int) -> tuple[tuple[int, int], ...]:
        """(rows, columns) of each level for a padded input of height x width pixels: sides ceil-halved."""
        return tuple((-(-height // stride), -(-width // stride)) for stride in self.strides)

    def grids_of(self, padded: np.ndarray) -> np.ndarray:
        """int64 [N, levels, 2]: the same for N padded inputs; `padded` is [N, 2], width and height in pixels."""
        strides = np.array(self.strides, np.int64)[:, None]
        return -(-padded[:, None, ::-1] // strides)

    def locations(self, height: int, width: int) -> np.ndarray:
        """All locations [L, 2] (x, y) in pixels, float32: row-major, x fastest, levels in order."""
        parts = []
        for (rows, columns), stride, start in zip(self.grids(height, width), self.strides, self.starts, strict=True):
            y, x = np.mgrid[0:rows, 0:columns]
            parts.append(np.stack([x.ravel(), y.ravel()], axis=1) * stride + start)
        return np.concatenate(parts).astype(np.float32)


def default_ranges(levels: Sequence[int]) -> tuple[tuple[float, float], ...]:
    """The paper's ranges for a run of levels: P3 ends at 64, then doubling; the first starts at 0, the last is open."""
    uppers = [float(1 << (level + 3)) for level in levels[:-1]] + [math.inf]
    return tuple(zip([0.0, *uppers[:-1]], uppers, strict=True))


def build_pyramid(
    levels: Sequence[int],
    ranges: Sequence[tuple[float, float]] | None = None,
    origin: LocationOrigin = "half_stride",
) -> Pyramid:
    """A pyramid of consecutive levels (P3..P7 is `[3, 4, 5, 6, 7]`), with the paper's ranges unless others are given.

    Raises:
        ValueError: levels that are empty, not consecutive or outside P2..P7; ranges that do not match them.
    """
    if not levels or list(levels) != list(range(levels[0], levels[0] + len(levels))):
        raise ValueError(f"levels must be a run of consecutive numbers such as [3, 4, 5, 6, 7], not {list(levels)}")
    if levels[0] < MIN_LEVEL or levels[-1] > MAX_LEVEL:
        raise ValueError(f"levels must lie within {MIN_LEVEL}..{MAX_LEVEL}, not {list(levels)}")
    chosen = default_ranges(levels) if ranges is None else tuple(ranges)
    if len(chosen) != len(levels):
        raise ValueError(f"{len(levels)} levels need {len(levels)} ranges, not {len(chosen)}")
    for lower, upper in chosen:
        if not 0 <= lower < upper:
            raise ValueError(f"a range must be [lower, upper] with 0 <= lower < upper, not [{lower}, {upper}]")
    return Pyramid(tuple(Level(i, float(a), float(b)) for i, (a, b) in zip(levels, chosen, strict=True)), origin)
