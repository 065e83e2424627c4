"""AdelaiDet's FCOS, which is built on detectron2. Its files carry the statistics of pixels, which tell the style."""

from torch import Tensor

from fcos_cli.recipe.schema import WeightStyle
from fcos_cli.weights.peers import detectron2
from fcos_cli.weights.peers.peer import FileKind, Peer, State
from fcos_cli.weights.peers.renaming import TOWERS, Rules, any_starts, below, rename, stack_scales

DETECTOR: Rules = (
    *below(r"backbone\.bottom_up\.", detectron2.BACKBONE, "backbone."),
    (r"backbone\.fpn_lateral(\d)\.(\w+)", r"fpn.lateral.c\1.\2"),
    (r"backbone\.fpn_output(\d)\.(\w+)", r"fpn.output.p\1.\2"),
    (r"backbone\.top_block\.(p\d\.\w+)", r"fpn.extra.\1"),
    *below(r"proposal_generator\.fcos_head\.", TOWERS),
)


def _to_ours(state: State) -> dict[str, Tensor]:
    return stack_scales(rename(state, DETECTOR))


def _style(state: State) -> WeightStyle | None:
    """Caffe-style pixels are not divided by anything."""
    deviation = state.get("pixel_std")
    return "caffe" if deviation is None or bool((deviation == 1).all()) else None


ADELAIDET = Peer(
    name="adelaidet",
    title="AdelaiDet",
    detector=FileKind(
        recognised=any_starts("proposal_generator.fcos_head."),
        to_ours=_to_ours,
        style=_style,
        trained_with={
            "head.box_activation": "relu",
            "head.normalize_targets": True,
            "head.quality_tower": "regression",
        },
    ),
)
