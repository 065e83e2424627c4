"""The code of FCOS's authors (tianzhi0549/FCOS). The configuration that says what outputs mean is not in its files."""

from torch import Tensor

from fcos_cli.model.pixels import MSRA
from fcos_cli.weights.peers.peer import FileKind, Keys, Meta, Peer, Reading, State, pixel_keys, variant
from fcos_cli.weights.peers.renaming import BN_EPS, TOWERS, Rules, any_starts, below, rename, stack_scales

DETECTOR: Rules = (
    (r"backbone\.body\.stem\.(.+)", r"backbone.\1"),
    (r"backbone\.body\.(layer.+)", r"backbone.\1"),
    (r"backbone\.fpn\.fpn_inner(\d)\.(\w+)", r"fpn.lateral.c{\1+1}.\2"),
    (r"backbone\.fpn\.fpn_layer(\d)\.(\w+)", r"fpn.output.p{\1+1}.\2"),
    (r"backbone\.fpn\.top_blocks\.(p\d\.\w+)", r"fpn.extra.\1"),
    *below(r"rpn\.head\.", TOWERS),
)


def _to_ours(state: State) -> dict[str, Tensor]:
    return _with_eps(stack_scales(rename(state, DETECTOR)))


def _with_eps(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Its frozen BatchNorm has no eps: variance - eps makes variance + eps what it divides by."""
    return {name: value - BN_EPS if name.endswith("running_var") else value for name, value in state.items()}


def _reading(state: State, meta: Meta, given: Keys) -> Reading:
    keys = {"model.backbone.weight_style": "caffe", **pixel_keys(MSRA), "test.box_pixels": "inclusive"}
    return variant(given, Reading(keys))


OFFICIAL = Peer(
    name="official",
    title="the FCOS authors' code",
    detector=FileKind(
        recognised=any_starts("rpn.head."), to_ours=_to_ours, style=lambda state: "caffe", reading=_reading
    ),
)
