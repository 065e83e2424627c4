"""A network prepared for inference against the model it was made of."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fcos_cli.data.sources.files import image_files
from fcos_cli.method.fcos.head import FCOSHead
from fcos_cli.model.fcos import FCOS
from fcos_cli.model.resnet import FrozenBatchNorm
from fcos_cli.recipe.schema import ModelConfig
from fcos_cli.runtime import convolutions, winograd
from fcos_cli.runtime.convolutions import Convolution, PackedConvolution, WinogradConvolution, fastest
from fcos_cli.runtime.precision import choose_precision
from fcos_cli.runtime.predictor import Predictor
from fcos_cli.runtime.prepared import as_it_stands, prepare
from fcos_cli.weights.saved import load_detector


def detector(name="resnet50", norm="frozen_bn", style="pytorch", head_norm="gn"):
    """A narrow one, in training mode, whose norms do something."""
    config = ModelConfig.model_validate(
        {
            "backbone": {"name": name, "width": 8, "norm": norm, "frozen_stages": 0, "weights": ""},
            "pyramid": {"channels": 16},
            "head": {"convs": 1, "groups": 4, "norm": head_norm},
        }
    )
    torch.manual_seed(3)
    model = FCOS(config, 5, style)
    for module in model.backbone.modules():
        if isinstance(module, FrozenBatchNorm | nn.BatchNorm2d | nn.GroupNorm):
            module.weight.data.uniform_(0.3, 1.5)
            module.bias.data.normal_()
        if isinstance(module, FrozenBatchNorm | nn.BatchNorm2d):
            module.running_mean.normal_()
            module.running_var.uniform_(0.3, 3.0)
    return model


def outputs_of(network, pixels):
    with torch.inference_mode():
        outputs = network(pixels)
    return [level for part in outputs.values() for level in part]


def errors(found, wanted):
    """Largest difference of each map, beside its deviation from its mean."""
    assert [x.shape for x in found] == [x.shape for x in wanted]
    return [float((x.float() - y).abs().max() / (y.std())) for x, y in zip(found, wanted, strict=True)]


@pytest.fixture
def narrow(monkeypatch):
    monkeypatch.setattr(convolutions, "WIDE", 8)


@pytest.mark.parametrize("wide", [8, 10**6])
@pytest.mark.parametrize(
    ("name", "norm", "style", "head_norm"),
    [
        ("resnet18", "bn", "pytorch", "gn"),
        ("resnet18", "gn", "pytorch", "none"),
        ("resnet50", "frozen_bn", "caffe", "gn"),
        ("resnet50", "gn", "pytorch", "gn"),
        ("resnext101_32x8d", "frozen_bn", "caffe", "gn"),
    ],
)
def test_float32_is_the_model_to_rounding(name, norm, style, head_norm, wide, monkeypatch):
    monkeypatch.setattr(convolutions, "WIDE", wide)
    model = detector(name, norm, style, head_norm)
    network = prepare(model, choose_precision("float32", "cpu"))
    for shape in ((2, 3, 96, 160), (1, 3, 160, 256)):
        pixels = torch.randn(shape)
        wanted = outputs_of(model.eval().double(), pixels.double())
        found = outputs_of(network, pixels)
        assert all(x.dtype == torch.float32 for x in found)
        assert max(errors(found, [x.float() for x in wanted])) < 2e-3


@pytest.mark.parametrize("norm", ["frozen_bn", "gn"])
def test_bfloat16_is_close(norm):
    model = detector(norm=norm).eval()
    precision = choose_precision("bfloat16", "cpu")
    pixels = torch.randn(2, 3, 96, 160)
    wanted = outputs_of(model, pixels)
    found = outputs_of(prepare(model, precision), pixels)
    assert all(x.dtype == torch.bfloat16 for x in found)
    # No further from float32 than autocast is, to the luck of rounding.
    cast = errors(outputs_of(as_it_stands(model, precision), pixels), wanted)
    assert np.mean(errors(found, wanted)) < 1.5 * np.mean(cast) + 0.01


def test_the_model_is_left_alone(narrow):
    model = detector(norm="bn").train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    strides = [p.stride() for p in model.parameters()]
    pixels = torch.randn(1, 3, 64, 64)
    network = prepare(model, choose_precision("float32", "cpu"))
    first = outputs_of(network, pixels)
    assert model.training
    assert [p.stride() for p in model.parameters()] == strides
    assert model.state_dict().keys() == before.keys()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(p.requires_grad for p in model.parameters())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    assert all(torch.equal(x, y) for x, y in zip(outputs_of(network, pixels), first, strict=True))


def test_same_detections(tiny_detector, make_images):
    model = load_detector(tiny_detector).model
    test = load_detector(tiny_detector).recipe.test
    data = image_files([str(make_images({f"{i}.png": (50 + 9 * i, 64) for i in range(4)}))])

    def found(device):
        return {r.index: r for r in Predictor(model, test, device=device, precision="float32").run(data)}

    plain, prepared = found(None), found(torch.device("cpu"))
    assert sum(len(r.boxes) for r in plain.values()) > 10
    for index, result in plain.items():
        other = prepared[index]
        # Neighbours of nearly equal score may change places.
        assert len(other.boxes) == len(result.boxes)
        np.testing.assert_allclose(other.scores, result.scores, atol=1e-5)
        np.testing.assert_allclose(other.boxes.sum(0), result.boxes.sum(0), rtol=1e-3)


@pytest.mark.parametrize("kind", [Convolution, PackedConvolution, WinogradConvolution])
@pytest.mark.parametrize("relu", [False, True])
@pytest.mark.parametrize("add", [False, True])
def test_convolutions(kind, relu, add):
    conv = nn.Conv2d(6, 10, 3, padding=1).requires_grad_(False)
    x, residual = (torch.randn(2, c, 9, 13).to(memory_format=torch.channels_last) for c in (6, 10))
    wanted = conv(x) + residual if add else conv(x)
    wanted = wanted.relu() if relu else wanted
    with torch.inference_mode():
        found = kind(conv)(x, residual.clone() if add else None, relu)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_which_convolution(narrow):
    def kind(*sizes, dtype=torch.float32, **options):
        return type(fastest(nn.Conv2d(*sizes, **options).requires_grad_(False).to(dtype)))

    assert kind(8, 8, 3, padding=1) is WinogradConvolution
    others = [
        kind(8, 8, 3, padding=1, dtype=torch.bfloat16),
        kind(8, 8, 3, padding=1, stride=2),
        kind(8, 8, 3, padding=0),
        kind(8, 8, 3, padding=2, dilation=2),
        kind(8, 8, 3, padding=1, groups=2),
        kind(8, 4, 3, padding=1),
        kind(8, 8, 1),
    ]
    assert not set(others) & {WinogradConvolution}


@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 8), (5, 3), (13, 17), (30, 22)])
@pytest.mark.parametrize("chunk", [1, 1 << 21])
def test_winograd(height, width, chunk, monkeypatch):
    monkeypatch.setattr(winograd, "CHUNK", chunk)
    weight, bias = torch.randn(7, 64, 3, 3), torch.randn(7)
    for x in (torch.randn(2, 64, height, width), torch.randn(2, 64, height, 2 * width)[..., ::2]):
        wanted = F.conv2d(x.double(), weight.double(), bias.double(), padding=1)
        found = winograd.convolve(x, winograd.transform_weight(weight), bias)
        assert found.is_contiguous(memory_format=torch.channels_last)
        assert float((found - wanted).abs().max() / wanted.abs().max()) < 2e-5
        torch.testing.assert_close(
            winograd.convolve(x, winograd.transform_weight(weight), bias, relu=True), found.relu()
        )


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_a_head_that_is_not_plain_keeps_its_modules(precision):
    """A convolution that wraps around and one of a class of its own: none that is faster computes the same."""

    class Doubled(torch.nn.Conv2d):
        def forward(self, x):
            return 2 * super().forward(x)

    class Head(FCOSHead):
        plain = False

    model = detector().eval()
    model.head.__class__ = Head
    channels = model.config.pyramid.channels
    model.head.box_output = torch.nn.Conv2d(channels, 4, 3, padding=1, padding_mode="circular")
    model.head.class_logits = Doubled(channels, model.num_classes, 3, padding=1)
    chosen = choose_precision(precision, "cpu")
    pixels = torch.randn(1, 3, 96, 160)
    found = prepare(model, chosen)(pixels)
    with torch.no_grad(), chosen.autocast():
        wanted = model(pixels)
    for name, levels in wanted.items():
        for mine, theirs in zip(found[name], levels, strict=True):
            allowed = 2e-3 if precision == "float32" else 0.1
            assert (mine.float() - theirs.float()).abs().max() < allowed * theirs.float().abs().max()
