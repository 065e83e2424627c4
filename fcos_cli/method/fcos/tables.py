"""FCOS's tables of a recipe. The defaults are the paper's (R-50, 37.1 AP); "official" is the authors' code."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from fcos_cli.method.table import AssignConfig, Count, Fraction, HeadConfig, LossConfig, NonNegative, Positive

Quality = Literal["centerness", "iou", "none", "from_box"]
BoxLoss = Literal["iou", "linear_iou", "giou", "diou", "ciou"]

USUAL_RADIUS = 1.5


class FCOSAssignConfig(AssignConfig):
    """Which locations learn which box (section 3.2; centre sampling is the improved variant's)."""

    name: Literal["fcos"] = Field("fcos", description="Method that assigns locations to boxes.")
    center_sampling: NonNegative = Field(
        0.0, description="Radius in strides around the centre; 1.5 is usual, 0 is off."
    )
    range_ends: Literal["inclusive", "exclusive"] = Field(
        "inclusive",
        description="Whether a level's range includes its ends (official: yes; torchvision, detectron2: no).",
    )
    ignore_crowd: bool = Field(
        False, description="Ignore, in the classification loss, locations that only a crowd covers."
    )

    def facts(self) -> dict[str, Any]:
        return {"center_sampling": self.center_sampling}

    def in_words(self) -> str:
        return f"centre sampling {self.center_sampling:g}" if self.center_sampling else ""

    def alternatives(self) -> Iterator[tuple[str, "FCOSAssignConfig"]]:
        radius = 0.0 if self.center_sampling else USUAL_RADIUS
        name = f"centre sampling {radius:g}" if radius else "no centre sampling"
        yield name, self.model_copy(update={"center_sampling": radius})


class FCOSHeadConfig(HeadConfig):
    """The head that all levels share (section 3.2), and what its outputs mean."""

    name: Literal["fcos"] = Field("fcos", description="Method that the head is of.")
    convs: Count = Field(4, description="3x3 convolutions in each of the two towers.")
    norm: Literal["gn", "none"] = Field("gn", description="Normalisation in the towers.")
    groups: Positive = Field(32, description="Groups of the GroupNorm.")
    box_activation: Literal["exp", "relu"] = Field(
        "exp", description="Distance = exp(s x) (base) or relu(s x) (improved)."
    )
    normalize_targets: bool = Field(False, description="Distances in units of the level's stride (improved) or pixels.")
    quality: Quality = Field(
        "centerness",
        description="centerness: a branch; iou: the branch learns the IoU; none; from_box: from the predicted box.",
    )
    quality_tower: Literal["classification", "regression"] = Field(
        "classification", description="The tower that carries the quality branch (improved: regression)."
    )
    prior: Annotated[float, Field(gt=0, lt=1)] = Field(0.01, description="Initial class probability of every location.")

    @property
    def has_branch(self) -> bool:
        """Whether a quality is predicted beside class and box."""
        return self.quality in ("centerness", "iou")


class FCOSLossConfig(LossConfig):
    """Focal loss, box loss, quality loss (equations 2 and 3)."""

    name: Literal["fcos"] = Field("fcos", description="Method that the losses are of.")
    focal_alpha: Fraction = Field(0.25, description="Weight of the positives in the focal loss.")
    focal_gamma: NonNegative = Field(2.0, description="Focusing exponent.")
    box: BoxLoss = Field("iou", description="iou is -log IoU.")
    box_weight: Literal["centerness", "none"] = Field(
        "centerness", description="Weight of each positive in the box loss (official: its centre-ness target)."
    )
    iou_smoothing: NonNegative = Field(1.0, description="Added to intersection and union (official: 1; others: 0).")
    scale_class: NonNegative = Field(1.0, description="Factor of the focal loss.")
    scale_box: NonNegative = Field(1.0, description="Factor of the box loss.")
    scale_quality: NonNegative = Field(1.0, description="Factor of the quality loss.")
