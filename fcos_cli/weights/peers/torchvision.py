"""torchvision's FCOS. Its backbones, and those of timm and mmpretrain, have this toolkit's names."""

from fcos_cli.model.pixels import IMAGENET
from fcos_cli.weights.peers.peer import IMPROVED, SAMPLED, FileKind, Keys, Peer, Reading, pixel_keys
from fcos_cli.weights.peers.renaming import Rules, any_starts, rename

DETECTOR: Rules = (
    (r"backbone\.body\.(.+)", r"backbone.\1"),
    (r"backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?\.(\w+)", r"fpn.lateral.c{\1+3}.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?\.(\w+)", r"fpn.output.p{\1+3}.\2"),
    (r"backbone\.fpn\.extra_blocks\.(p\d\.\w+)", r"fpn.extra.\1"),
    (r"head\.classification_head\.conv\.(.+)", r"head.class_tower.\1"),
    (r"head\.classification_head\.cls_logits\.(\w+)", r"head.class_logits.\1"),
    (r"head\.regression_head\.conv\.(.+)", r"head.box_tower.\1"),
    (r"head\.regression_head\.bbox_reg\.(\w+)", r"head.box_output.\1"),
    (r"head\.regression_head\.bbox_ctrness\.(\w+)", r"head.quality.\1"),
)

RECIPE: Keys = {
    "model.backbone.weight_style": "pytorch",
    **pixel_keys(IMAGENET),
    **IMPROVED,
    **SAMPLED,
    "model.pyramid.locations": "corner",
    "assign.range_ends": "exclusive",
    "loss.box_weight": "none",
    "loss.iou_smoothing": 0.0,
    "test.threshold_on": "score",
    "test.score_threshold": 0.2,
    "test.strides": "image",
}

TORCHVISION = Peer(
    name="torchvision",
    title="torchvision",
    detector=FileKind(
        recognised=any_starts("head.classification_head."),
        to_ours=lambda state: rename(state, DETECTOR),
        style=lambda state: "pytorch",
        reading=lambda state, meta, given: Reading(dict(RECIPE)),
    ),
)
