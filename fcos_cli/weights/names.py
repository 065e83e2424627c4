"""A file's tensors under our names, whichever project wrote it: one of `peers.PEERS`, or this toolkit."""

from typing import NamedTuple

from torch import Tensor

from fcos_cli.recipe.schema import WeightStyle
from fcos_cli.weights.peers import PEERS, FileKind, Peer, State
from fcos_cli.weights.peers.renaming import absorbed, rename

BACKBONE = "backbone."


class BackboneState(NamedTuple):
    """A backbone's tensors under our names without "backbone.", and the style that they imply, if any."""

    state: dict[str, Tensor]
    style: WeightStyle | None


def detector_peer(state: State) -> tuple[Peer, FileKind] | None:
    """The other project whose whole detector this is, and how it names it."""
    return next(((p, p.detector) for p in PEERS if p.detector is not None and p.detector.recognised(state)), None)


def backbone_state(state: State) -> BackboneState:
    """A backbone under our names; a whole detector, of another project or of this toolkit, gives its backbone.

    Names that no project has are kept, for the error that lists them.
    """
    if whole := detector_peer(state):
        _, kind = whole
        return BackboneState(_backbone_of(absorbed(kind.to_ours(state))), kind.style(state))
    if any(name.startswith(BACKBONE) for name in state):
        state = _backbone_of(state)
    kinds = (peer.backbone for peer in PEERS if peer.backbone is not None)
    theirs = next((kind for kind in kinds if kind.recognised(state)), None)
    if theirs is None:
        return BackboneState(absorbed(rename(state)), None)
    return BackboneState(absorbed(theirs.to_ours(state)), theirs.style(state))


def _backbone_of(state: State) -> dict[str, Tensor]:
    return {name.removeprefix(BACKBONE): value for name, value in state.items() if name.startswith(BACKBONE)}
