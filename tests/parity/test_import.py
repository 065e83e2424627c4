"""`fcos weights import` of other programs' checkpoints, then `fcos predict`: their outputs, and their detections."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from typer.testing import CliRunner

from fcos_cli.app import app
from fcos_cli.errors import WeightsError
from fcos_cli.weights.files import read_file
from fcos_cli.weights.importing import completed, import_detector
from fcos_cli.weights.names import detector_peer
from fcos_cli.weights.saved import load_detector

RELU, EXP = "model.head.box_activation=relu", "model.head.box_activation=exp"
V1 = (RELU, "model.backbone.weight_style=pytorch", "model.head.groups=8")
QUALITY = "model.head.quality=centerness"
CASES = {
    "fcos-orig-base/weights.pth": (EXP,),
    "fcos-orig-imprv/weights.pth": (RELU,),
    "adet-fcos/weights.pth": (QUALITY,),
    "d2-fcos/weights.pth": (),
    "mmdet-fcos-base-caffe/weights.pth": (),
    "mmdet-fcos-improved-caffe/weights.pth": (),
    "mmdet-fcos-improved-torch/weights.pth": (),
    "mmdet-fcos-improved-r18-nmspre/weights.pth": (),
    "mmdet-checkpoints/full.pth": (),
    "mmdet-checkpoints/ddp.pth": (),
    "mmdet-checkpoints/v1_names.pth": V1,
}
IN_PIXELS = ("fcos-orig-imprv", "mmdet-fcos-improved", "mmdet-checkpoints")
OUTPUTS = {"classification": "cls", "box": "reg", "quality": "ctr"}


def imported(parity: Path, name: str):
    return import_detector(parity / name, overrides=CASES[name]).detector


def distances(model, levels, name):
    """Box outputs as the record has them: detectron2's head has no activation."""
    levels = [x * scale for x, scale in zip(levels, model.head.scales, strict=True)]
    if name.startswith("d2-fcos"):
        return levels
    if model.head.config.box_activation == "exp":
        return [x.exp() for x in levels]
    strides = model.pyramid.strides if name.startswith(IN_PIXELS) else [1] * len(levels)
    return [x.relu() * stride for x, stride in zip(levels, strides, strict=True)]


@torch.no_grad()
def outputs_of(model, image, name):
    outputs = model(model.preprocess([image]).pixels.to(model.head.scales.dtype))
    return {**outputs, "box": distances(model, outputs["box"], name)}


def flat(levels, units):
    return torch.cat([(x.double() / unit).flatten() for x, unit in zip(levels, units, strict=True)])


@pytest.mark.parametrize("name", CASES)
def test_every_tensor_is_placed_and_outputs_are_as_near_as_their_own(parity, name):
    """Float32 outputs lie as near to the program's float64 ones as twice its own float32 error."""
    tensors = load_file(parity / name.split("/")[0] / "io.safetensors")
    image = load_file(parity / "_shared" / "io.safetensors")["image0"]
    detector = imported(parity, name)
    state = read_file(parity / name).tensors
    counters = {key for key in state if key.endswith("num_batches_tracked")}
    filled = {key for key in detector.model.state_dict() if not key.endswith("num_batches_tracked")}
    _, kind = detector_peer(state)
    ours = completed(kind.to_ours({key: value for key, value in state.items() if key not in counters}))
    assert filled == ours.keys()
    found = outputs_of(detector.model, image, name)
    for output, theirs in OUTPUTS.items():
        in_pixels = output == "box" and name.startswith(IN_PIXELS)
        units = detector.model.pyramid.strides if in_pixels else [1] * 5
        exact, own = (
            flat([tensors[f"test/{kind}/{theirs}/{level}"] for level in range(5)], units) for kind in ("raw64", "raw")
        )
        error = (flat(found[output], units) - exact).square().mean().sqrt()
        assert error <= 2 * (own - exact).square().mean().sqrt(), output


@pytest.mark.parametrize("name", CASES)
def test_import_then_predict(parity, tmp_path, name):
    """The recorded detections of an image: as many, of these labels, in this order of scores."""
    case = parity / name.split("/")[0]
    shared, tensors = load_file(parity / "_shared" / "io.safetensors"), load_file(case / "io.safetensors")
    image, weights, out = tmp_path / "image0.png", tmp_path / "model.safetensors", tmp_path / "found.json"
    Image.fromarray(shared["image0"].numpy()).save(image)
    classes = tmp_path / "names.txt"
    classes.write_text("\n".join(json.loads((case / "case.json").read_text())["classes"]) + "\n")
    keys = [part for key in (*CASES[name], "test.short_side=150") for part in ("--set", key)]
    run = CliRunner()
    given = ["--out", str(weights), "--classes", str(classes), *keys]
    done = run.invoke(app, ["weights", "import", str(parity / name), *given], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert load_detector(weights).categories.names == ("ant", "bee", "crab", "dove", "eel")
    options = ["--weights", str(weights), "--out", str(out), "--precision", "float32", "--device", "cpu"]
    done = run.invoke(app, ["predict", str(image), *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    found = json.loads(out.read_text())
    boxes, scores = (tensors[f"test/det64/{column}"].double() for column in ("boxes", "scores"))
    order = scores.argsort(descending=True, stable=True)
    assert [entry["category_id"] - 1 for entry in found] == tensors["test/det64/labels"][order].tolist()
    ours = np.array([entry["bbox"] for entry in found])
    ours[:, 2:] += ours[:, :2]
    np.testing.assert_allclose(ours, boxes[order].numpy(), rtol=0, atol=0.01)
    # The program's own float32 scores are as far away as 1.03e-4 in one case.
    own = (tensors["test/det/scores"].double() - scores).abs().max()
    np.testing.assert_allclose(
        [entry["score"] for entry in found], scores[order].numpy(), rtol=0, atol=max(1e-4, 2 * float(own))
    )


def test_a_file_is_predicted_with_as_it_is(parity, tmp_path):
    """Without an import: what only a training depends on is not asked."""
    image, out = tmp_path / "image0.png", tmp_path / "found.json"
    Image.fromarray(load_file(parity / "_shared" / "io.safetensors")["image0"].numpy()).save(image)
    options = ["--weights", str(parity / "adet-fcos" / "weights.pth"), "--out", str(out), "--device", "cpu"]
    done = CliRunner().invoke(app, ["predict", str(image), *options], catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert json.loads(out.read_text())


@pytest.mark.parametrize(
    ("name", "needs"),
    [
        ("mmdet-fcos-dcn-caffe", r"deformable convolutions \(DCN\)"),
        ("mmdet-autoassign", "AutoAssign"),
        ("mmdet-retinanet", "does not hold a detector of"),
        ("mmdet-atss", "does not hold a detector of"),
    ],
)
def test_what_is_lacking_is_named(parity, name, needs):
    with pytest.raises(WeightsError, match=needs):
        import_detector(parity / name / "weights.pth")


@pytest.mark.parametrize(
    ("name", "key", "choices"),
    [
        ("fcos-orig-base/weights.pth", "model.head.box_activation", ("exp", "relu")),
        ("adet-fcos/weights.pth", "model.head.quality", ("centerness", "iou")),
        ("mmdet-checkpoints/v1_names.pth", "model.backbone.weight_style", ("caffe", "pytorch")),
        ("mmdet-checkpoints/v1_names.pth", "model.head.groups", ("8", "4")),
    ],
)
def test_what_a_file_does_not_tell_is_asked(parity, name, key, choices):
    with pytest.raises(WeightsError) as caught:
        import_detector(parity / name)
    assert all(f"--set {key}={choice}" in caught.value.message for choice in choices)
