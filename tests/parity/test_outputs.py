"""Our network with other programs' weights, read by our own loading, gives their outputs."""

import pytest
import torch

PEERS = ("fcos-orig-base", "fcos-orig-imprv", "adet-fcos")
WITHIN_OWN_ERROR = 2.0
"""Float32 outputs lie as near to the program's float64 ones as this many of its own float32 errors."""


def distances(model, outputs, name):
    """Outputs as the records have them: distances activated, those of the improved original's test in pixels."""
    head = model.head
    raw = [x * scale for x, scale in zip(outputs["box"], head.scales, strict=True)]
    active = [x.exp() if head.config.box_activation == "exp" else x.relu() for x in raw]
    if name == "fcos-orig-imprv":
        active = [x * stride for x, stride in zip(active, model.pyramid.strides, strict=True)]
    return {**outputs, "box": active}


def units(case, outputs):
    """Pixels of a distance of 1 in the record, so that errors of all levels compare."""
    return case.about["strides"] if case.name == "fcos-orig-imprv" and outputs == "box" else [1] * 5


@torch.no_grad()
def run(case, dtype):
    model = case.model(dtype)
    pixels = case.pixels(case.images[:1], dtype)
    features = model.fpn(model.backbone(pixels))
    return model, features, distances(model, model.head(features), case.name)


@pytest.mark.parametrize("name", PEERS)
def test_float64_outputs_are_theirs(case, name):
    opened = case(name)
    _, features, outputs = run(opened, torch.float64)
    recorded = opened.recorded_outputs("test/raw64")
    for output, levels in outputs.items():
        for ours, theirs in zip(levels, recorded[output], strict=True):
            assert theirs.dtype == torch.float64
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-10)
    for level, maps in enumerate(features):
        mean, std = maps.mean((0, 2, 3)), maps.std((0, 2, 3), correction=0)
        torch.testing.assert_close(mean.float(), opened.tensors["test/feat_mean"][level], rtol=1e-4, atol=2e-4)
        torch.testing.assert_close(std.float(), opened.tensors["test/feat_std"][level], rtol=1e-4, atol=2e-4)


@pytest.mark.parametrize("name", PEERS)
def test_float32_outputs_are_as_near_as_their_own(case, name):
    opened = case(name)
    _, _, outputs = run(opened, torch.float32)
    exact, rounded = opened.recorded_outputs("test/raw64"), opened.recorded_outputs("test/raw")
    for output, levels in outputs.items():
        ours, own = (
            torch.cat([(a - b).flatten() / unit for a, b, unit in zip(x, exact[output], per, strict=True)])
            for x, per in ((levels, units(opened, output)), (rounded[output], units(opened, output)))
        )
        assert ours.square().mean().sqrt() <= WITHIN_OWN_ERROR * own.square().mean().sqrt(), output


@pytest.mark.parametrize("name", ["fcos-orig-base", "fcos-orig-imprv"])
def test_pixels_are_the_authors(case, name):
    opened = case(name)
    pixels = opened.model(torch.float32).preprocess(opened.images[:1]).pixels
    assert list(pixels.shape) == opened.about["results"]["test_input_shape"]
    assert float(pixels.double().sum()) == opened.about["results"]["test_input_sum"]
    assert torch.equal(pixels[:, :, ::2, ::2], opened.shared["input/caffe_detectron/test_sub2"])


def test_pixels_are_adelaidets(case):
    opened = case("adet-fcos")
    pixels = opened.model(torch.float32).preprocess(opened.images[:1]).pixels
    assert torch.equal(pixels[:, :, ::2, ::2], opened.shared["input/caffe_detectron2/test_sub2"])
