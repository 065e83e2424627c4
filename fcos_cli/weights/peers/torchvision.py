"""torchvision's FCOS. Its backbones, and those of timm and mmpretrain, have this toolkit's names."""

from fcos_cli.weights.peers.peer import FileKind, Peer
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

TORCHVISION = Peer(
    name="torchvision",
    title="torchvision",
    detector=FileKind(
        recognised=any_starts("head.classification_head."),
        to_ours=lambda state: rename(state, DETECTOR),
        style=lambda state: "pytorch",
        trained_with={
            "head.box_activation": "relu",
            "head.normalize_targets": True,
            "head.quality_tower": "regression",
            "pyramid.locations": "corner",
        },
    ),
)
