"""A detector from a name, a file, an address or the hub: against a local server."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch

from fcos_cli.data.records import Categories
from fcos_cli.errors import SetupError, UsageError, WeightsError
from fcos_cli.method.fcos.tables import FCOSHeadConfig
from fcos_cli.model.fcos import FCOS
from fcos_cli.recipe.schema import BackboneConfig, ModelConfig, PyramidConfig
from fcos_cli.weights.opening import any_detector, find_file, open_detector
from fcos_cli.weights.saved import save_detector
from fcos_cli.weights.starting import build_model

API = "/api/models/someone/fcos"


@pytest.fixture
def served(monkeypatch, tmp_path):
    """Files by path on a server that stands for every host."""
    files: dict[str, bytes] = {}

    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *args):
            pass

        def do_GET(self):
            body = files.get(self.path)
            self.send_response(404 if body is None else 200)
            self.send_header("Content-Length", str(len(body or b"")))
            self.end_headers()
            self.wfile.write(body or b"")

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("FCOS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("FCOS_MIRROR", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.chdir(tmp_path)
    yield files
    server.shutdown()
    server.server_close()


def listing(*names):
    return json.dumps({"siblings": [{"rfilename": name} for name in names]}).encode()


@pytest.fixture
def ours(tiny_detector):
    return tiny_detector.read_bytes()


def test_a_repository_on_the_hub(served, ours):
    served[API] = listing("README.md", "model.safetensors")
    served["/someone/fcos/resolve/main/model.safetensors"] = ours
    whole, named = (open_detector(f"hf://someone/fcos{file}") for file in ("", "/model.safetensors"))
    assert whole.path == named.path
    assert whole.path.read_bytes() == ours


def test_repositories_that_name_no_file(served):
    served[API] = listing("a.safetensors", "b.safetensors")
    with pytest.raises(WeightsError, match=r"several files of weights: a\.safetensors, b\.safetensors"):
        find_file("hf://someone/fcos")
    served[API] = listing("README.md")
    with pytest.raises(WeightsError, match="no file of weights"):
        find_file("hf://someone/fcos")
    with pytest.raises(SetupError, match="does not list its files"):
        find_file("hf://nobody/nothing")
    with pytest.raises(UsageError, match="no file on the hub"):
        find_file("hf://someone")


def test_an_address(served, ours):
    served["/a/best.safetensors"] = ours
    assert open_detector("https://host/a/best.safetensors").path.read_bytes() == ours


def torchvisions(classes):
    """A small detector as torchvision names it."""
    config = ModelConfig(
        backbone=BackboneConfig(name="resnet50", width=4, frozen_stages=0, weights=""),
        pyramid=PyramidConfig(channels=32),
        head=FCOSHeadConfig(convs=1),
    )
    named = {}
    for name, value in FCOS(config, classes).state_dict().items():
        for old, new in (
            ("backbone.", "backbone.body."),
            ("fpn.lateral.c3.", "backbone.fpn.inner_blocks.0.0."),
            ("fpn.lateral.c4.", "backbone.fpn.inner_blocks.1.0."),
            ("fpn.lateral.c5.", "backbone.fpn.inner_blocks.2.0."),
            ("fpn.output.p3.", "backbone.fpn.layer_blocks.0.0."),
            ("fpn.output.p4.", "backbone.fpn.layer_blocks.1.0."),
            ("fpn.output.p5.", "backbone.fpn.layer_blocks.2.0."),
            ("fpn.extra.", "backbone.fpn.extra_blocks."),
            ("head.class_tower.", "head.classification_head.conv."),
            ("head.class_logits.", "head.classification_head.cls_logits."),
            ("head.box_tower.", "head.regression_head.conv."),
            ("head.box_output.", "head.regression_head.bbox_reg."),
            ("head.quality.", "head.regression_head.bbox_ctrness."),
        ):
            if name.startswith(old):
                named[new + name.removeprefix(old)] = value
                break
    return named


def test_91_rows_are_the_80_classes_of_coco(tmp_path):
    state = torchvisions(91)
    layer = "head.classification_head.cls_logits.bias"
    state[layer] = torch.arange(91.0)
    torch.save(state, tmp_path / "theirs.pth")
    said = []
    detector = open_detector(tmp_path / "theirs.pth", say=said.append)
    assert (len(detector.categories), detector.categories.ids[-1], detector.categories.names[-1]) == (
        80,
        90,
        "toothbrush",
    )
    assert detector.model.head.class_logits.bias.tolist() == list(detector.categories.ids)
    assert "11 of 91 rows" in said[0]


def test_without_a_run_torchvisions_is_taken_and_offline_it_is_said_where_it_belongs(served, tmp_path):
    said = []
    with pytest.raises(SetupError) as caught:
        any_detector(None, say=said.append)
    assert "torchvision/fcos_resnet50_fpn, 130 MB, 80 classes of COCO, BSD-3-Clause" in said[0]
    place = tmp_path / "home" / "weights" / "torchvision" / "fcos_resnet50_fpn_coco-99b0c9b7.pth"
    assert str(place) in caught.value.hint
    assert "\n" not in caught.value.message + caught.value.hint


def test_a_published_detector_that_lacks_something_is_not_downloaded(served):
    with pytest.raises(WeightsError, match="DLA backbone"):
        find_file("adelaidet/FCOS_RT_MS_DLA_34_4x")


@pytest.mark.parametrize(
    ("change", "row"),
    [
        (lambda s: s.pop("backbone.fpn.extra_blocks.p6.bias"), r"fpn\.extra\.p6\.bias +missing"),
        (lambda s: s.update({"head.more": torch.zeros(2)}), r"head\.more +left over +\[2\]"),
        (
            lambda s: s.update({"head.regression_head.bbox_reg.bias": torch.zeros(5)}),
            r"head\.box_output\.bias +shape +\[5\] +\[4\]",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_listed(tmp_path, change, row):
    state = torchvisions(5)
    change(state)
    torch.save(state, tmp_path / "theirs.pth")
    with pytest.raises(WeightsError, match=row):
        open_detector(tmp_path / "theirs.pth")


def test_another_projects_detector_starts_a_training_on_other_classes(tmp_path):
    """The body is as it was, and the classes that it knew by name keep their rows."""
    state = torchvisions(91)
    state["head.classification_head.cls_logits.bias"] = torch.arange(91.0)
    path = tmp_path / "theirs.pth"
    torch.save(state, path)
    known = open_detector(path)
    model_config = known.recipe.model.model_copy(update={"weights": str(path)})
    recipe = known.recipe.model_copy(update={"model": model_config})
    model, notes = build_model(recipe, Categories((1, 2, 3), ("wheel", "person", "zebra")))
    assert model.head.class_logits.bias.tolist()[1:] == [1.0, 24.0]
    assert any("they know 80 classes, 2 (person, zebra) of the data's 3" in note for note in notes)
    theirs = known.model.state_dict()
    assert all(
        torch.equal(value, theirs[name])
        for name, value in model.state_dict().items()
        if not name.startswith("head.class_logits")
    )
    save_detector(tmp_path / "imported.safetensors", known.model, known.recipe, known.categories)
    start = model_config.model_copy(update={"weights": str(tmp_path / "imported.safetensors")})
    again, notes = build_model(
        recipe.model_copy(update={"model": start}), Categories((1, 2, 3), ("wheel", "person", "zebra"))
    )
    assert again.head.class_logits.bias.tolist()[1:] == [1.0, 24.0]
    assert "2 of 3 classes known to them by name" in notes[0]
