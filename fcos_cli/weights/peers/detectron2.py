"""detectron2: its backbones and its FCOS. AdelaiDet's and cvpods's detectors share its backbone and pyramid."""

import torch
from torch import Tensor

from fcos_cli.model.pixels import DETECTRON2 as PIXELS
from fcos_cli.model.pixels import PixelFormat
from fcos_cli.recipe.schema import WeightStyle
from fcos_cli.weights.peers.peer import IMPROVED, SAMPLED, FileKind, Keys, Meta, Peer, Reading, State, pixel_keys
from fcos_cli.weights.peers.renaming import BN_EPS, Rules, any_starts, below, rename

# res2 is layer1
BACKBONE: Rules = (
    (r"stem\.conv1\.norm\.(\w+)", r"bn1.\1"),
    (r"stem\.conv1\.(weight|bias)", r"conv1.\1"),
    (r"res(\d)\.(\d+)\.shortcut\.norm\.(\w+)", r"layer{\1-1}.\2.downsample.1.\3"),
    (r"res(\d)\.(\d+)\.shortcut\.(weight|bias)", r"layer{\1-1}.\2.downsample.0.\3"),
    (r"res(\d)\.(\d+)\.conv(\d)\.norm\.(\w+)", r"layer{\1-1}.\2.bn\3.\4"),
    (r"res(\d)\.(\d+)\.conv(\d)\.(weight|bias)", r"layer{\1-1}.\2.conv\3.\4"),
)
PYRAMID: Rules = (
    *below(r"backbone\.bottom_up\.", BACKBONE, "backbone."),
    (r"backbone\.fpn_lateral(\d)\.(\w+)", r"fpn.lateral.c\1.\2"),
    (r"backbone\.fpn_output(\d)\.(\w+)", r"fpn.output.p\1.\2"),
    (r"backbone\.top_block\.(p\d\.\w+)", r"fpn.extra.\1"),
)
HEAD: Rules = (
    (r"head\.cls_subnet\.(.+)", r"head.class_tower.\1"),
    (r"head\.bbox_subnet\.(.+)", r"head.box_tower.\1"),
    (r"head\.cls_score\.(\w+)", r"head.class_logits.\1"),
    (r"head\.bbox_pred\.(\w+)", r"head.box_output.\1"),
    (r"head\.(?:ctrness|centerness|ious_pred)\.(\w+)", r"head.quality.\1"),
    (r"head\.scales\.(\d+)\.scale", r"head.scales.\1"),
)


def style_of_pixels(state: State) -> WeightStyle | None:
    """Caffe-style pixels are not divided by anything. Older files have the statistics."""
    deviation = state.get("pixel_std")
    return "caffe" if deviation is None or bool((deviation == 1).all()) else None


def reading_of_pixels(state: State) -> Reading:
    """Pixels as the file has them, else detectron2's usual ones; the stride where such pixels have it."""
    if "pixel_mean" in state and "pixel_std" in state:
        mean, std = (tuple(state[f"pixel_{name}"].flatten().double().tolist()) for name in ("mean", "std"))
        mean, std = (tuple(round(value, 4) for value in values) for values in (mean, std))
        # Both formats have 116.28 in the middle and their larger number where red is.
        pixels = PixelFormat("rgb" if mean[0] > mean[2] else "bgr", mean, std)
        notes = []
    else:
        pixels = PIXELS
        notes = ["pixels are detectron2's usual ones, BGR less 103.53, 116.28, 123.675: the file does not tell them"]
    style = "pytorch" if style_of_pixels(state) is None else "caffe"
    return Reading({"model.backbone.weight_style": style, **pixel_keys(pixels)}, notes)


def with_statistics(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Early files have no mean and variance of a frozen BatchNorm: they are 0 and 1 with nothing added."""
    for name in [name.removesuffix("weight") for name in state if name.endswith(NORMS)]:
        weight = state[f"{name}weight"]
        state.setdefault(f"{name}running_mean", torch.zeros_like(weight))
        state.setdefault(f"{name}running_var", torch.full_like(weight, 1 - BN_EPS))
    return state


NORMS = ("bn1.weight", "bn2.weight", "bn3.weight", "downsample.1.weight")


def _detector(state: State) -> dict[str, Tensor]:
    return with_statistics(rename(state, (*PYRAMID, *HEAD)))


def _reading(state: State, meta: Meta, given: Keys) -> Reading:
    reading = reading_of_pixels(state)
    reading.keys |= {
        **IMPROVED,
        **SAMPLED,
        "assign.range_ends": "exclusive",
        "loss.box_weight": "none",
        "loss.iou_smoothing": 0.0,
        "test.threshold_on": "score",
        "test.score_threshold": 0.2,
        "test.clip": "after",
    }
    return reading


DETECTRON2 = Peer(
    name="detectron2",
    title="detectron2",
    detector=FileKind(
        recognised=any_starts("head.ctrness."), to_ours=_detector, style=style_of_pixels, reading=_reading
    ),
    backbone=FileKind(
        recognised=any_starts("stem.conv1."), to_ours=lambda state: with_statistics(rename(state, BACKBONE))
    ),
)
