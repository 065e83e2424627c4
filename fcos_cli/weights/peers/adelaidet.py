"""AdelaiDet's FCOS, which is built on detectron2. Its files carry the statistics of pixels, which tell the style."""

from torch import Tensor

from fcos_cli.weights.peers import detectron2
from fcos_cli.weights.peers.peer import IMPROVED, SAMPLED, FileKind, Keys, Meta, Peer, Question, Reading, State
from fcos_cli.weights.peers.renaming import TOWERS, Rules, any_starts, below, rename, stack_scales

DETECTOR: Rules = (*detectron2.PYRAMID, *below(r"proposal_generator\.fcos_head\.", TOWERS))


def _to_ours(state: State) -> dict[str, Tensor]:
    return detectron2.with_statistics(stack_scales(rename(state, DETECTOR)))


QUALITY = Question(
    "model.head.quality",
    (("centerness", "MODEL.FCOS.BOX_QUALITY ctrness, the default"), ("iou", "BOX_QUALITY iou")),
    to_run=False,
)


def _reading(state: State, meta: Meta, given: Keys) -> Reading:
    reading = detectron2.reading_of_pixels(state)
    reading.keys |= {**IMPROVED, **SAMPLED, "test.clip": "after"}
    if "model.head.quality" not in given:
        reading.questions.append(QUALITY)
    return reading


ADELAIDET = Peer(
    name="adelaidet",
    title="AdelaiDet",
    detector=FileKind(
        recognised=any_starts("proposal_generator.fcos_head."),
        to_ours=_to_ours,
        style=detectron2.style_of_pixels,
        reading=_reading,
    ),
)
