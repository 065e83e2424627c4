"""How wrong the outputs are: equation 2 of the paper, with centre-ness (equation 3) as its third term.

    loss = 1/N sum_xy focal(p, c*)  +  1/W sum_{c* > 0} w iou(t, t*)  +  1/N sum_{c* > 0} bce(q, centre-ness*)

N is the number of positives. The authors' code weights each positive's box loss by its centre-ness target, w, and
divides by the sum of these, W; the paper's equation has w = 1 and W = N (`loss.box_weight`). docs/method.md, Losses.
"""

from collections.abc import Mapping

from torch import Tensor

from fcos_cli.errors import MethodError
from fcos_cli.geometry.pyramid import Pyramid
from fcos_cli.method.dense_head import DenseHead
from fcos_cli.method.fcos.assigner import CENTERNESS
from fcos_cli.method.fcos.head import FCOSHead
from fcos_cli.method.fcos.tables import FCOSLossConfig
from fcos_cli.method.interface import Assignment, Geometry, Outputs
from fcos_cli.method.targets import Targets
from fcos_kernels.assign.plain import normalizers
from fcos_kernels.loss import detection_loss

MIN_POSITIVES = 1.0
MIN_CENTERNESS_SUM = 1e-6  # official


class FCOSLosses:
    """Focal loss of the classes, IoU loss of the boxes, cross-entropy of the quality, in one pass of a fused op.

    Args:
        config: the recipe's `[loss]`.
        pyramid: levels and strides.
        head: what the outputs mean, and the trained scales of the box outputs.
    """

    terms = ("classification", "box", "quality")
    normalizer_names = ("positives", CENTERNESS)

    def __init__(self, config: FCOSLossConfig, pyramid: Pyramid, head: DenseHead) -> None:
        if not isinstance(head, FCOSHead):
            raise MethodError(
                f'loss.name = "fcos" reads the outputs of an FCOSHead, not of a {type(head).__name__}',
                "a head for these losses subclasses fcos_cli.method.fcos.head.FCOSHead",
            )
        self.config, self.pyramid, self.head = config, pyramid, head

    def normalizers(
        self, targets: Targets, geometry: Geometry, assignment: Assignment, outputs: Outputs | None = None
    ) -> dict[str, Tensor]:
        """N and W; an assigner that does not sum the centre-ness targets up leaves it to this."""
        total = assignment.sums.get(CENTERNESS)
        if total is None:
            pyramid = self.pyramid
            _, total = normalizers(assignment.index, targets.boxes, geometry.grids, pyramid.strides, pyramid.starts)
        return {"positives": assignment.positives, CENTERNESS: total}

    def __call__(
        self,
        outputs: Outputs,
        targets: Targets,
        geometry: Geometry,
        assignment: Assignment,
        normalizers: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """The three terms, each times its factor of the recipe."""
        config, head = self.config, self.head
        positives = normalizers["positives"].clamp(min=MIN_POSITIVES)
        weighted = config.box_weight == "centerness"
        classification, box, quality = detection_loss(
            outputs["classification"],
            outputs["box"],
            outputs.get("quality"),
            head.scales,
            index=assignment.index,
            boxes=targets.boxes,
            labels=targets.labels,
            strides=self.pyramid.strides,
            starts=self.pyramid.starts,
            units=head.units,
            activation=head.config.box_activation,
            box_loss=config.box,
            box_weight=config.box_weight,
            iou_smoothing=config.iou_smoothing,
            quality=head.config.quality if head.config.has_branch else "none",
            alpha=config.focal_alpha,
            gamma=config.focal_gamma,
            positives=positives,
            box_normalizer=normalizers[CENTERNESS].clamp(min=MIN_CENTERNESS_SUM) if weighted else positives,
        )
        return {
            "classification": classification * config.scale_class,
            "box": box * config.scale_box,
            "quality": quality * config.scale_quality,
        }
