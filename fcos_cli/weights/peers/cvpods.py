"""cvpods: its FCOS, and Megvii's OTA, which is built on it. What the outputs mean stands in its configuration."""

from torch import Tensor

from fcos_cli.weights.peers import detectron2
from fcos_cli.weights.peers.peer import IMPROVED, FileKind, Keys, Meta, Peer, Reading, State, variant
from fcos_cli.weights.peers.renaming import any_starts, rename, stack_scales

_IOU = "head.ious_pred."


def _recognised(state: State) -> bool:
    own = any_starts("head.centerness.")(state) or any_starts(_IOU)(state)
    return own and any_starts("head.cls_subnet.")(state)


def _to_ours(state: State) -> dict[str, Tensor]:
    renamed = rename(state, (*detectron2.PYRAMID, *detectron2.HEAD))
    return detectron2.with_statistics(stack_scales(renamed))


def _reading(state: State, meta: Meta, given: Keys) -> Reading:
    reading = detectron2.reading_of_pixels(state)
    reading.keys |= {"test.rank_by": "class", "test.clip": "after"}
    if any_starts(_IOU)(state):
        reading.keys |= {**IMPROVED, "model.head.quality": "iou", "model.pyramid.locations": "corner"}
        return reading
    return variant(given, reading)


CVPODS = Peer(
    name="cvpods",
    title="cvpods",
    detector=FileKind(recognised=_recognised, to_ours=_to_ours, style=detectron2.style_of_pixels, reading=_reading),
)
