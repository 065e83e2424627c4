"""The recipe: every choice of the method as a typed key. The defaults are the paper's FCOS (R-50, 37.1 AP).

Each class is a table of the TOML file; `[assign]`, `[model.head]` and `[loss]` are those of the method that their key
`name` names (`fcos_cli/method`). Unknown keys are errors. Contradictions between keys are found in `rules.py`.
Section numbers refer to the FCOS paper (arXiv 1904.01355); "official" is the authors' code.
"""

from typing import Annotated, Literal

from pydantic import Field

from fcos_cli.geometry.pyramid import LocationOrigin, Pyramid, build_pyramid
from fcos_cli.method.by_name import ByName
from fcos_cli.method.fcos.tables import FCOSAssignConfig, FCOSHeadConfig, FCOSLossConfig
from fcos_cli.method.table import (
    AssignConfig,
    Count,
    Fraction,
    HeadConfig,
    LossConfig,
    NonNegative,
    Positive,
    PositiveTriple,
    Range,
    Span,
    Table,
    Triple,
)

BackboneName = Literal["resnet18", "resnet34", "resnet50", "resnet101", "resnext101_32x8d", "resnext101_64x4d"]
Norm = Literal["frozen_bn", "bn", "gn"]
WeightStyle = Literal["pytorch", "caffe"]
Precision = Literal["auto", "float32", "bfloat16", "float16"]


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
        description='Pretrained: a published name (see `fcos weights list`), a file or a URL; "" is from scratch.',
    )
    weight_style: Literal["auto", "pytorch", "caffe"] = Field(
        "auto",
        description="Pixel format and stride placement the weights were trained with; auto asks the published name.",
    )
    pixel_order: Literal["auto", "rgb", "bgr"] = Field(
        "auto", description="Order of the channels that the weights were trained with; auto: as they say themselves."
    )
    pixel_mean: Triple | None = Field(
        None, description="Taken from pixels of 0 to 255, in that order. Unset: as the weights say."
    )
    pixel_std: PositiveTriple | None = Field(None, description="Pixels are divided by it. Unset: as the weights say.")


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


class ModelConfig(Table):
    """The network."""

    backbone: BackboneConfig = BackboneConfig()
    pyramid: PyramidConfig = PyramidConfig()
    head: Annotated[HeadConfig, ByName("head")] = FCOSHeadConfig()
    weights: str = Field(
        "",
        description="A detector's checkpoint to start from (a file, a run or a URL); the number of classes may differ.",
    )


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
    image_dir: str = Field("", description="The folder of the images, where they are not found by themselves.")
    stretch_16_bit: bool = Field(
        False, description="16-bit gray from its smallest to its largest value, not from 0 to 65535 (thermal cameras)."
    )
    strict: bool = Field(False, description="What is left out, not read or changed on reading the data is an error.")
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
    clip: Literal["before", "after"] = Field(
        "before", description="Boxes are cut to the image before suppression, or after (AdelaiDet, detectron2)."
    )
    box_pixels: Literal["exact", "inclusive"] = Field(
        "exact", description="A width is x1 - x0, or inclusive x1 - x0 + 1 with x up to width - 1 (official)."
    )
    strides: Literal["level", "image"] = Field(
        "level",
        description="Locations lie a level's stride apart, or the padded image's size // the grid's (torchvision).",
    )
    max_detections: Positive = Field(100, description="Detections kept per image.")
    tta: TestTimeConfig = TestTimeConfig()


class Recipe(Table):
    """A whole recipe."""

    description: str = Field("", description="What the recipe is for, in one line.")
    published_ap: float | None = Field(
        None, description="The paper's AP on COCO (percent), where the recipe reproduces one."
    )
    model: ModelConfig = ModelConfig()
    assign: Annotated[AssignConfig, ByName("assigner")] = FCOSAssignConfig()
    loss: Annotated[LossConfig, ByName("losses")] = FCOSLossConfig()
    data: DataConfig = DataConfig()
    optimizer: OptimizerConfig = OptimizerConfig()
    schedule: ScheduleConfig = ScheduleConfig()
    train: TrainConfig = TrainConfig()
    test: TestConfig = TestConfig()

    @property
    def learning_rate(self) -> float:
        """Base learning rate at this batch size (linear scaling)."""
        return self.optimizer.lr * self.train.batch_size / self.optimizer.reference_batch
