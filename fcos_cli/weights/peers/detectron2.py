"""detectron2: backbones. Its detectors of the FCOS family are AdelaiDet's."""

from fcos_cli.weights.peers.peer import FileKind, Peer
from fcos_cli.weights.peers.renaming import Rules, any_starts, rename

# res2 is layer1
BACKBONE: Rules = (
    (r"stem\.conv1\.norm\.(\w+)", r"bn1.\1"),
    (r"stem\.conv1\.weight", r"conv1.weight"),
    (r"res(\d)\.(\d+)\.shortcut\.norm\.(\w+)", r"layer{\1-1}.\2.downsample.1.\3"),
    (r"res(\d)\.(\d+)\.shortcut\.weight", r"layer{\1-1}.\2.downsample.0.weight"),
    (r"res(\d)\.(\d+)\.conv(\d)\.norm\.(\w+)", r"layer{\1-1}.\2.bn\3.\4"),
    (r"res(\d)\.(\d+)\.conv(\d)\.weight", r"layer{\1-1}.\2.conv\3.weight"),
)

DETECTRON2 = Peer(
    name="detectron2",
    title="detectron2",
    backbone=FileKind(recognised=any_starts("stem.conv1."), to_ours=lambda state: rename(state, BACKBONE)),
)
