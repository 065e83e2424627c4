"""Which location learns which box (FCOS section 3.1; docs/method.md, Assignment)."""

from fcos_cli.method.fcos.tables import FCOSAssignConfig
from fcos_cli.method.interface import START, Assignment, Geometry, Moment, Outputs
from fcos_cli.method.targets import Targets
from fcos_kernels.assign import assign

CENTERNESS = "centerness"
"""Name of the sum of the positives' centre-ness targets among an assignment's sums and the losses' normalisers."""


class FCOSAssigner:
    """A location learns the smallest box that contains it and whose farthest side lies within its level's range.

    With centre sampling it must also lie near the box's centre. Boxes and locations alone decide: outputs are not
    looked at.
    """

    def __init__(self, config: FCOSAssignConfig) -> None:
        self.config = config

    def assign(
        self, targets: Targets, geometry: Geometry, outputs: Outputs | None = None, moment: Moment = START
    ) -> Assignment:
        """Rows of the boxes, the number of positives, and the sum of their centre-ness targets (equation 3)."""
        pyramid = geometry.pyramid
        assigned = assign(
            targets.boxes,
            targets.offsets,
            grids=geometry.grids,
            strides=pyramid.strides,
            starts=pyramid.starts,
            ranges=pyramid.ranges,
            radius=self.config.center_sampling,
            inclusive=self.config.range_ends == "inclusive",
            ignore=targets.ignore,
        )
        if not self.config.ignore_crowd:
            assigned.index.clamp_(min=-1)  # what only a crowd covers is background, as in the authors' code
        return Assignment(assigned.index, assigned.positives, {CENTERNESS: assigned.centerness_sum})
