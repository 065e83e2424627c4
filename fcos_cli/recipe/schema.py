"""The recipe: every choice of the method as a typed key. The defaults are the paper's FCOS (R-50, 37.1 AP).

Each class is a table of the TOML file. Unknown keys are errors. Contradictions between keys are found in `rules.py`.
Section numbers refer to the FCOS paper (arXiv 1904.01355); "official" is the authors' code.
"""

from typing import Annotated, Literal

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, Strict

from fcos_cli.geometry.pyramid import LocationOrigin, Pyramid, build_pyramid

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Bound = Annotated[float, Field(ge=0), AllowInfNan(True)]
# TOML has arrays, not tuples: these two accept a list although tables are strict about types.
Range = Annotated[tuple[Bound, Bound], Strict(False)]
Span = Annotated[tuple[Positive, Positive], Strict(False)]

BackboneName = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnext101_32x8d", "resnext101_64x4d"]
Norm = Literal["frozen_bn", "bn", "gn"]
WeightStyle = Literal["pytorch", "caffe"]
Quality = Literal["centerness", "iou", "none", "from_box"]
BoxLoss = Literal["iou", "linear_iou", "giou", "diou", "ciou"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


class Table(BaseModel):
    """One table of a recipe: frozen, closed to keys that it does not know, and strict about types ("8" is no number).

    JSON carries infinite range ends as `Infinity`: `model_validate_json(model_dump_json())` gives the same recipe.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )


class BackboneConfig(Table):
    """The residual network below the pyramid."""

    name: BackboneName = Field("resnet50", description="Architecture.")
    width: Positive = Field(64, description="Channels of the stem; 64 is the published network, less is a slimmer one.")
    norm: Norm = Field(
        "frozen_bn", description="frozen_bn keeps pretrained BatchNorm; bn trains it; gn trains GroupNorm."
    )
    frozen_stages: Annotated[int, Field(ge=0, le=5)] = Field(
        2, description="Leading stages that do not train: 0 none, 1 the stem, 2 stem and layer1, ... 5 all."
    )
    weights: str = Field(
        "msra/R-50",
        description='Pretrained: a published name (see `fcos recipe weights`), a file or a URL; "" is from scratch.',
    )
    weight_style: Literal["auto", "pytorch", "caffe"] = Field(
        "auto",
        description="Pixel format and stride placement the weights were trained with; auto asks the published name.",
    )


class PyramidConfig(Table):
    """The feature pyramid network (section 3.2)."""

    channels: Positive = Field(256, description="Channels of every level.")
    levels: list[int] = Field(
        [3, 4, 5, 6, 7], description="A run of levels within P2..P7; [4] is the single-level variant."
    )
    ranges: list[Range] | None = Field(
        None,
        description="[lower, upper] of max(l, t, r, b) in input pixels per level; inf is allowed. Unset: the paper's.",
    )
    extra_from: Literal["p5", "c5"] = Field("p5", description="What P6 is computed from: p5 (FCOS) or c5 (RetinaNet).")
    locations: LocationOrigin = Field("half_stride", description="half_stride is the paper; corner is torchvision's.")

    def geometry(self) -> Pyramid:
        """The levels, strides and ranges as geometry. Raises ValueError where they do not match."""
        return build_pyramid(self.levels, self.ranges, self.locations)


class HeadConfig(Table):
    """The head that all levels share (section 3.2), and what its outputs mean."""

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


class ModelConfig(Table):
    """The network."""

    backbone: BackboneConfig = BackboneConfig()
    pyramid: PyramidConfig = PyramidConfig()
    head: HeadConfig = HeadConfig()
    weights: str = Field(
        "",
        description="A detector's checkpoint to start from (a file, a run or a URL); the number of classes may differ.",
    )


class AssignConfig(Table):
    """Which locations learn which box (section 3.2; centre sampling is the improved variant's)."""

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


class LossConfig(Table):
    """Focal loss, box loss, quality loss (equations 2 and 3)."""

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


class DataConfig(Table):
    """The data set and how its images enter the network in training."""

    dataset: str = Field(
        "coco",
        description="A name (shapes is built in; coco and others lie under $FCOS_DATA, ./data, ./datasets), "
        "a folder, or an annotation file.",
    )
    val_dataset: str = Field("", description="Where the images to evaluate on are, if not in `dataset`.")
    train_split: str = Field("train", description="Split to train on.")
    val_split: str = Field("val", description="Split to evaluate on.")
    short_side: Positive | Span = Field(800, description="Short side in pixels; [640, 800] draws it uniformly.")
    long_side: Positive = Field(1333, description="Largest long side in pixels.")
    flip: Fraction = Field(0.5, description="Probability of a horizontal flip.")
    vertical_flip: Fraction = Field(0.0, description="Probability of a vertical flip (microscopy, aerial images).")
    group_by_aspect: bool = Field(True, description="Batches of only wide or only tall images: less padding.")
    skip_empty: bool = Field(False, description="Leave images without objects out of training.")
    workers: Annotated[int, Field(ge=-1)] = Field(
        -1, description="Loader processes a rank; -1 chooses by the machine, 0 loads in the main process."
    )


class OptimizerConfig(Table):
    """Optimiser and its parameter groups (section 4; bias rules: official)."""

    name: Literal["sgd", "adamw"] = Field("sgd", description="Optimiser.")
    lr: Annotated[float, Field(gt=0)] = Field(0.01, description="Learning rate for `reference_batch` images.")
    reference_batch: Positive = Field(16, description="lr is scaled by train.batch_size / reference_batch.")
    momentum: Fraction = Field(0.9, description="Momentum of SGD.")
    weight_decay: NonNegative = Field(1e-4, description="Weight decay of the convolutions' weights.")
    bias_lr_factor: NonNegative = Field(2.0, description="Biases learn this much faster.")
    bias_weight_decay: NonNegative = Field(0.0, description="Weight decay of the biases.")
    norm_weight_decay: NonNegative = Field(1e-4, description="Weight decay of normalisation weights.")
    clip_norm: NonNegative = Field(0.0, description="Largest gradient norm; 0 is off.")


class ScheduleConfig(Table):
    """Learning rate over the iterations."""

    iterations: Positive = Field(90_000, description="Length of the training in optimiser steps.")
    decay: Literal["step", "cosine"] = Field("step", description="Shape of the decay; cosine ends at 0.")
    steps: list[Positive] = Field([60_000, 80_000], description="Iterations at which a step schedule decays.")
    gamma: Fraction = Field(0.1, description="Factor at each step.")
    warmup: Literal["constant", "linear", "none"] = Field(
        "constant", description="constant holds the factor (official)."
    )
    warmup_iterations: Count = Field(500, description="Length of the warm-up.")
    warmup_factor: Fraction = Field(1 / 3, description="lr factor at the start of the warm-up.")


class TrainConfig(Table):
    """How training runs."""

    batch_size: Positive = Field(16, description="Images per optimiser step, over all devices.")
    accumulate: Positive = Field(
        1, description="Split each device's share of a step into this many passes, to save memory."
    )
    precision: Precision = Field("auto", description="auto: bfloat16 where the device computes it fast, else float32.")
    kernels: Literal["auto", "reference"] = Field(
        "auto", description="auto: Triton kernels on a GPU; reference: plain PyTorch ops, to compare with."
    )
    channels_last: bool = Field(True, description="Keep images and features in channels-last memory order.")
    ema: Annotated[float, Field(ge=0, lt=1)] = Field(0.0, description="Decay of an average of the weights; 0 is off.")
    seed: Count = Field(0, description="Seed of weights, order and augmentation.")
    eval_every: Count = Field(0, description="Evaluate every this many iterations; 0: at the end only.")
    checkpoint_every: Count = Field(1000, description="Save `last` every this many iterations; 0: at the end only.")
    log_every: Positive = Field(20, description="Report every this many iterations.")


class TestTimeConfig(Table):
    """Test-time augmentation: passes beside the one at test.short_side. The defaults are the authors'."""

    scales: list[Annotated[float, Field(gt=0, le=10)]] = Field(
        [0.5, 0.625, 0.75, 0.875, 1.125, 1.25, 1.375, 1.5],
        description="Short sides of the further passes, as multiples of test.short_side (of 800: 400 to 1200).",
    )
    long_side: Annotated[float, Field(ge=1, le=100)] = Field(
        2.5, description="Largest long side of the further passes, as a multiple of test.short_side (of 800: 2000)."
    )
    flip: bool = Field(True, description="Every pass once more on the image mirrored left to right.")


class TestConfig(Table):
    """Prediction (section 3.1 and 4; section 7 of the constants)."""

    short_side: Positive = Field(800, description="Short side in pixels.")
    long_side: Positive = Field(1333, description="Largest long side in pixels.")
    batch_size: Positive = Field(8, description="Images per pass when evaluating.")
    score_threshold: Fraction = Field(0.05, description="Candidates must exceed it.")
    threshold_on: Literal["class", "score"] = Field(
        "class", description="What is held against it: class probability (official) or the final score (torchvision)."
    )
    rank_by: Literal["score", "class"] = Field("score", description="What picks the top candidates of a level.")
    score: Literal["sqrt", "product"] = Field("sqrt", description="sqrt(class * centre-ness) or their product.")
    candidates: Positive = Field(1000, description="Candidates kept per level.")
    nms_iou: Fraction = Field(0.6, description="Same-class boxes that overlap more are suppressed.")
    max_detections: Positive = Field(100, description="Detections kept per image.")
    tta: TestTimeConfig = TestTimeConfig()


class Recipe(Table):
    """A whole recipe."""

    description: str = Field("", description="What the recipe is for, in one line.")
    published_ap: float | None = Field(
        None, description="The paper's AP on COCO (percent), where the recipe reproduces one."
    )
    model: ModelConfig = ModelConfig()
    assign: AssignConfig = AssignConfig()
    loss: LossConfig = LossConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    test: TestConfig = TestConfig()

    @property
    def learning_rate(self) -> float:
        """Base learning rate at this batch size (linear scaling)."""
        return self.optimizer.lr * self.train.batch_size / self.optimizer.reference_batch
