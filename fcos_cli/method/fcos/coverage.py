"""FCOS's assignment over whole data sets, as the statistics need it: NumPy, no torch."""

import numpy as np

from fcos_cli.geometry.pyramid import Pyramid
from fcos_cli.method.fcos.tables import FCOSAssignConfig
from fcos_kernels.assign.paint import Claims, claims


class FCOSCoverage:
    """Rules 1 to 4 of docs/method.md, Assignment, in the form of `CoverageRule`."""

    def claims(
        self, config: FCOSAssignConfig, boxes: np.ndarray, offsets: np.ndarray, pyramid: Pyramid, grids: np.ndarray
    ) -> Claims:
        """The cells that each box may have, the smallest box painted last (`fcos_kernels.paint`)."""
        return claims(
            boxes,
            offsets,
            grids=grids,
            strides=pyramid.strides,
            starts=pyramid.starts,
            ranges=pyramid.ranges,
            radius=config.center_sampling,
            inclusive=config.range_ends == "inclusive",
        )

    def may_have(
        self, config: FCOSAssignConfig, boxes: np.ndarray, points: np.ndarray, level: np.ndarray, pyramid: Pyramid
    ) -> np.ndarray:
        """bool [K], rules 1 to 3 for each pair of a box [:, k] and a location [:, k]."""
        inside: np.ndarray = np.all((points > boxes[:2]) & (points < boxes[2:]), axis=0)
        held = np.flatnonzero(inside)  # few pairs get this far
        low, high, point, on = boxes[:2, held], boxes[2:, held], points[:, held], level[held]
        fine = np.ones(len(held), dtype=bool)
        if config.center_sampling > 0:
            half = (np.float32(config.center_sampling) * np.array(pyramid.strides, dtype=np.float32))[on]
            centre = (low + high) * np.float32(0.5)
            fine &= ((point > np.maximum(centre - half, low)) & (point < np.minimum(centre + half, high))).all(axis=0)
        farthest = np.maximum(point - low, high - point).max(axis=0)
        lower, upper = np.array(pyramid.ranges, dtype=np.float32)[on].T
        if config.range_ends == "inclusive":
            fine &= (lower <= farthest) & (farthest <= upper)
        else:
            fine &= (lower < farthest) & (farthest < upper)
        inside[held] = fine
        return inside

    def levels(self, config: FCOSAssignConfig, longer: np.ndarray, pyramid: Pyramid) -> np.ndarray:
        """bool [K, levels]: of a location inside a box of longer side m, max(l, t, r, b) lies within [m / 2, m)."""
        lower, upper = np.array(pyramid.ranges, np.float32).T
        reaches = np.greater_equal if config.range_ends == "inclusive" else np.greater
        return np.asarray((lower < longer[:, None]) & reaches(upper, longer[:, None] / 2))
