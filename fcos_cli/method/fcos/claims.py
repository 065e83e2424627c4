"""FCOS's assignment over whole data sets, as the statistics need it: NumPy, no torch."""

import numpy as np

from fcos_cli.geometry.pyramid import Pyramid
from fcos_cli.method.fcos.tables import FCOSAssignConfig
from fcos_cli.method.interface import ClaimRule
from fcos_kernels.assign.paint import Claims, claims


class FCOSClaims(ClaimRule):
    """Rules 1 to 4 of docs/method.md, Assignment."""

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

    def levels(self, config: FCOSAssignConfig, longer: np.ndarray, pyramid: Pyramid) -> np.ndarray:
        """bool [K, levels]: of a location inside a box of longer side m, max(l, t, r, b) lies within [m / 2, m)."""
        lower, upper = np.array(pyramid.ranges, np.float32).T
        reaches = np.greater_equal if config.range_ends == "inclusive" else np.greater
        return np.asarray((lower < longer[:, None]) & reaches(upper, longer[:, None] / 2))
