"""Other projects' files are told apart by their names, and a project more is one entry more."""

import pytest
import torch

from fcos_cli.errors import WeightsError
from fcos_cli.weights import loading, names
from fcos_cli.weights.loading import read_detector
from fcos_cli.weights.names import backbone_state, detector_peer
from fcos_cli.weights.peers import PEERS, FileKind, Peer, Reading
from fcos_cli.weights.peers.renaming import any_starts, below, rename

DETECTORS = {
    "torchvision": "head.classification_head.cls_logits.bias",
    "official": "rpn.head.cls_logits.bias",
    "adelaidet": "proposal_generator.fcos_head.cls_logits.bias",
    "mmdetection": "bbox_head.conv_centerness.weight",
    "cvpods": "head.ious_pred.bias",
    "detectron2": "head.ctrness.bias",
}
BESIDE = {"cvpods": "head.cls_subnet.0.bias"}
"""What a project's files are recognised by, too."""
BACKBONES = {"detectron2": "stem.conv1.weight", "caffe2": "res2_0_branch2a_w"}
BIAS = torch.tensor([1.0, 2.0])


def test_each_has_a_name_of_its_own_and_something_to_read():
    assert len({peer.name for peer in PEERS}) == len({peer.title for peer in PEERS}) == len(PEERS)
    assert all(peer.detector or peer.backbone for peer in PEERS)
    assert {peer.name for peer in PEERS} == DETECTORS.keys() | BACKBONES.keys()


@pytest.mark.parametrize(("part", "files"), [("detector", DETECTORS), ("backbone", BACKBONES)])
def test_a_file_is_one_projects_alone(part, files):
    kinds = {peer.name: getattr(peer, part) for peer in PEERS}
    for owner, tensor in (*DETECTORS.items(), *BACKBONES.items()):
        state = {tensor: BIAS, BESIDE.get(owner, tensor): BIAS}
        found = [name for name, kind in kinds.items() if kind and kind.recognised(state)]
        assert found == [owner] * (files.get(owner) == tensor)


def test_tensors_get_our_names():
    for name, tensor in DETECTORS.items():
        peer, kind = detector_peer({tensor: BIAS, BESIDE.get(name, tensor): BIAS})
        assert peer.name == name
        layer = "class_logits" if "logits" in tensor else "quality"
        assert list(kind.to_ours({tensor: BIAS})) == [f"head.{layer}.{tensor.split('.')[-1]}"]


def test_this_toolkits_files_are_no_other_projects():
    state = {"head.class_logits.bias": BIAS, "backbone.conv1.weight": BIAS, "backbone.bn1.num_batches_tracked": BIAS}
    assert detector_peer(state) is None
    assert list(backbone_state(state).state) == ["conv1.weight"]


def test_rules_count_and_keep_what_they_do_not_know():
    rules = below(r"net\.", ((r"c(\d)\.(\w+)", r"p{\1+3}.x{\1-1}.\2"),), "our.")
    state = {"net.c2.weight": BIAS, "c2.weight": BIAS, "fc.weight": BIAS}
    assert list(rename(state, rules)) == ["our.p5.x1.weight", "c2.weight"]


def test_a_project_more_is_one_entry_more(tmp_path, monkeypatch):
    torch.save({"theirs.logits.bias": BIAS}, tmp_path / "their.pth")
    with pytest.raises(
        WeightsError, match=r"is not a detector of torchvision, the FCOS authors' code, .* or detectron2;"
    ):
        read_detector(str(tmp_path / "their.pth"))
    rules = ((r"theirs\.logits\.(\w+)", r"head.class_logits.\1"),)
    kind = FileKind(
        any_starts("theirs."),
        lambda state: rename(state, rules),
        reading=lambda state, meta, given: Reading({"model.head.box_activation": "relu"}),
    )
    for module in (names, loading):
        monkeypatch.setattr(module, "PEERS", (*PEERS, Peer("theirs", "their code", detector=kind)))
    found = read_detector(str(tmp_path / "their.pth"))
    assert (found.peer.name, found.style, found.num_classes) == ("theirs", "pytorch", 2)
    assert found.trained_with == {"head.box_activation": "relu"}
    torch.save({"other.bias": BIAS}, tmp_path / "other.pth")
    with pytest.raises(WeightsError, match="detectron2 or their code;"):
        read_detector(str(tmp_path / "other.pth"))
