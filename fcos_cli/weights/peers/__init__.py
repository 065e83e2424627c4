"""The projects whose weights this toolkit reads: a file for each, and its place in `PEERS`."""

from fcos_cli.weights.peers.adelaidet import ADELAIDET
from fcos_cli.weights.peers.caffe2 import CAFFE2
from fcos_cli.weights.peers.cvpods import CVPODS
from fcos_cli.weights.peers.detectron2 import DETECTRON2
from fcos_cli.weights.peers.mmdetection import MMDETECTION
from fcos_cli.weights.peers.official import OFFICIAL
from fcos_cli.weights.peers.peer import FileKind, Peer, Question, Reading, State
from fcos_cli.weights.peers.torchvision import TORCHVISION

__all__ = ["PEERS", "FileKind", "Peer", "Question", "Reading", "State"]

PEERS: tuple[Peer, ...] = (
    TORCHVISION,
    OFFICIAL,
    ADELAIDET,
    MMDETECTION,
    CVPODS,
    DETECTRON2,
    CAFFE2,
)
