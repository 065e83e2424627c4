"""`fcos weights`."""

import json

import torch
from safetensors.torch import load_file

from fcos_cli.weights.saved import load_detector


def test_list_shows_every_detector_with_its_figures(fcos):
    outcome = fcos("weights", "list", "--json")
    entries = {entry["name"]: entry for entry in json.loads(outcome.out)["weights"]}
    assert entries["torchvision/fcos_resnet50_fpn"]["ap"] == 39.2
    mmdetection = [entry["ap"] for name, entry in entries.items() if name.startswith("mmdetection/")]
    assert sorted(mmdetection) == [36.6, 38.5, 38.7, 39.1, 40.8, 42.3, 42.6]
    lacking = {name for name, entry in entries.items() if not entry["runs"]}
    assert {"official/FCOS_imprv_dcnv2_R_50_FPN_1x", "adelaidet/FCOS_RT_MS_DLA_34_4x"} <= lacking
    assert all(entry["licence"] for entry in entries.values() if entry["kind"] == "detector")
    table = fcos("weights", "list")
    assert table.code == 0
    assert "no: deformable convolutions (DCN)" in table.out
    assert fcos("recipe", "weights").out == table.out


def test_show_says_what_a_file_holds(fcos, tiny_detector):
    outcome = fcos("weights", "show", tiny_detector)
    assert outcome.code == 0
    detector = load_detector(tiny_detector)
    assert f"{sum(p.numel() for p in detector.model.parameters()):,} parameters" in outcome.out
    assert "SHA-256" in outcome.out
    about = json.loads(fcos("weights", "show", tiny_detector, "--json").out)
    assert about["classes"] == list(detector.categories.names)
    assert about["recipe"]["test"]["clip"] == "before"


def test_import_refuses_in_one_error(fcos, tmp_path, tiny_detector):
    for name, content, reason in (
        ("page.pth", b"<!doctype html>", "is a web page, not weights"),
        ("pointer.pth", b"version https://git-lfs.github.com/spec/v1\n", "is a Git LFS pointer"),
        ("cut.pth", b"PK\x03\x04 cut", "is not a whole"),
    ):
        (tmp_path / name).write_bytes(content)
        outcome = fcos("weights", "import", tmp_path / name, "--out", tmp_path / "new.safetensors")
        assert outcome.code == 4
        assert reason in outcome.err
    torch.save(load_file(tiny_detector), tmp_path / "ours.pth")
    outcome = fcos("weights", "import", tmp_path / "ours.pth", "--out", tmp_path / "new.safetensors")
    assert (outcome.code, "does not hold a detector of torchvision" in outcome.err) == (4, True)
    outcome = fcos("weights", "import", tmp_path / "ours.pth", "--from", "yolo", "--out", tmp_path / "new.safetensors")
    assert (outcome.code, "known: torchvision, official" in outcome.err) == (2, True)
    outcome = fcos("weights", "import", tmp_path / "ours.pth", "--out", tmp_path / "new.pth")
    assert (outcome.code, "must end in .safetensors" in outcome.err) == (2, True)
    assert not (tmp_path / "new.safetensors").exists()
