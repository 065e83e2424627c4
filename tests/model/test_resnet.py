import pytest
import torch
import torch.nn.functional as F
from torch import nn

from fcos_cli.model.resnet import ARCHITECTURES, Block, FrozenBatchNorm, ResNet, conv_norm, group_norm_groups
from fcos_cli.recipe.schema import BackboneConfig


def small(**changes) -> BackboneConfig:
    return BackboneConfig(
        **{"name": "resnet18", "width": 8, "norm": "bn", "frozen_stages": 0, "weights": "", **changes}
    )


@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("resnet18", 11_689_512),
        ("resnet34", 21_797_672),
        ("resnet50", 25_557_032),
        ("resnet101", 44_549_160),
        ("resnext101_32x8d", 88_791_336),
        ("resnext101_64x4d", 83_455_272),
    ],
)
def test_parameters_are_the_published_counts(name, published):
    with torch.device("meta"):
        trainable = ResNet(BackboneConfig(name=name, norm="bn", frozen_stages=0))
        frozen = ResNet(BackboneConfig(name=name, norm="frozen_bn", frozen_stages=0))
    classifier = 1000 * (trainable.channels[5] + 1)
    count = sum(p.numel() for p in trainable.parameters())
    assert count + classifier == published
    affine = sum(2 * m.num_features for m in trainable.modules() if isinstance(m, nn.BatchNorm2d))
    assert sum(p.numel() for p in frozen.parameters()) == count - affine


def test_resnet50_has_the_published_convolution_parameters():
    with torch.device("meta"):
        model = ResNet(BackboneConfig(name="resnet50"))
    assert sum(p.numel() for p in model.parameters()) == 23_454_912
    assert sum(isinstance(m, nn.Conv2d) for m in model.modules()) == 53


def random_norm(channels: int, dtype: torch.dtype) -> nn.BatchNorm2d:
    norm = nn.BatchNorm2d(channels).to(dtype)
    nn.init.uniform_(norm.weight, -1.5, 1.5)
    nn.init.normal_(norm.bias)
    norm.running_mean.normal_()
    norm.running_var.uniform_(0.05, 3)
    return norm.eval()


@pytest.mark.parametrize("frozen", [True, False])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float64, 1e-11), (torch.float32, 2e-5)])
def test_folding_equals_batchnorm_in_values_and_gradients(frozen, dtype, tolerance):
    torch.manual_seed(0)
    conv = nn.Conv2d(6, 8, 3, 2, 1, groups=2, bias=False).to(dtype)
    reference = random_norm(8, dtype)
    norm: nn.Module = FrozenBatchNorm(8).to(dtype) if frozen else random_norm(8, dtype)
    norm.load_state_dict(reference.state_dict())
    x = torch.randn(2, 6, 9, 7, dtype=dtype, requires_grad=True)
    ours, theirs = conv_norm(conv, norm, x), reference(conv(x))
    assert torch.allclose(ours, theirs, rtol=tolerance, atol=tolerance)
    seed = torch.randn_like(ours)
    variables = [x, conv.weight] + ([] if frozen else [norm.weight, norm.bias])
    expected = [x, conv.weight] + ([] if frozen else [reference.weight, reference.bias])
    for a, b in zip(
        torch.autograd.grad(ours, variables, seed), torch.autograd.grad(theirs, expected, seed), strict=True
    ):
        assert torch.allclose(a, b, rtol=tolerance, atol=10 * tolerance)


def test_batchnorm_in_training_uses_the_batch():
    torch.manual_seed(0)
    conv, norm = nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)
    out = conv_norm(conv, norm, torch.randn(4, 3, 8, 8) * 5 + 2)
    assert out.mean(dim=(0, 2, 3)).abs().max() < 1e-5
    assert norm.num_batches_tracked == 1


def test_frozen_norm_has_only_buffers_and_takes_trainable_weights():
    norm = FrozenBatchNorm(4)
    assert not list(norm.parameters())
    norm.load_state_dict(random_norm(4, torch.float32).state_dict())  # carries num_batches_tracked
    with pytest.raises(RuntimeError, match="running_var"):
        norm.load_state_dict({k: v for k, v in norm.state_dict().items() if k != "running_var"})


@pytest.mark.parametrize("stages", [0, 1, 2, 5])
def test_frozen_stages_do_not_train_and_keep_their_statistics(stages):
    torch.manual_seed(0)
    model = ResNet(small(frozen_stages=stages)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    loss = sum(level.mean() for level in model(torch.randn(2, 3, 64, 64)).values())
    parts = [("conv1.", "bn1."), ("layer1.",), ("layer2.",), ("layer3.",), ("layer4.",)]
    frozen = tuple(prefix for part in parts[:stages] for prefix in part)
    for name, parameter in model.named_parameters():
        assert parameter.requires_grad == (not name.startswith(frozen) if frozen else True), name
    for name, value in model.state_dict().items():
        if name.endswith("running_mean"):
            kept = bool(frozen) and name.startswith(frozen)
            assert torch.equal(value, before[name]) == kept, name
    assert loss.requires_grad == (stages < 5)


def test_strides_lie_where_the_weights_had_them():
    def strides(name, style):
        with torch.device("meta"):
            block = ResNet(BackboneConfig(name=name), style).layer2[0]
        return block.conv1.stride[0], block.conv2.stride[0]

    assert strides("resnet50", "pytorch") == (1, 2)
    assert strides("resnet50", "caffe") == (2, 1)
    assert strides("resnext101_32x8d", "pytorch") == (1, 2)
    assert strides("resnext101_32x8d", "caffe") == (1, 2)
    with torch.device("meta"):
        assert ResNet(BackboneConfig(name="resnet50"), "caffe").layer1[0].conv1.stride == (1, 1)


def test_names_are_torchvisions():
    with torch.device("meta"):
        names = set(ResNet(BackboneConfig(name="resnet50", norm="bn")).state_dict())
    for name in (
        "conv1.weight",
        "bn1.running_mean",
        "layer1.0.conv3.weight",
        "layer1.0.downsample.0.weight",
        "layer1.0.downsample.1.running_var",
        "layer4.2.bn3.bias",
    ):
        assert name in names
    # torchvision's resnet50 has 320 entries, two of them the classifier's.
    assert len(names) == 318


def test_groups_of_the_group_norm():
    wanted = {256: 32, 64: 32, 48: 24, 32: 16, 24: 12, 8: 4, 7: 1, 1: 1}
    assert {channels: group_norm_groups(channels) for channels in wanted} == wanted


@pytest.mark.parametrize("norm", ["bn", "gn"])
def test_blocks_start_as_their_shortcut(norm):
    torch.manual_seed(0)
    for name in ("resnet18", "resnet50"):
        block = ResNet(small(name=name, norm=norm)).layer1[1].eval()
        assert isinstance(block, Block)
        x = torch.randn(1, block.conv1.in_channels, 6, 6)
        assert torch.allclose(block(x), F.relu(x))


def test_convolutions_start_at_kaiming_fan_out():
    torch.manual_seed(0)
    weight = ResNet(small(width=64)).layer3[0].conv2.weight
    assert weight.std().item() == pytest.approx((2 / (256 * 9)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_features_halve_upwards_and_scale_with_the_width(name):
    model = ResNet(small(name=name, width=4, norm="gn"), outputs=(3, 5))
    expansion = 4 if ARCHITECTURES[name].bottleneck else 1
    features = model.eval()(torch.randn(1, 3, 75, 130))
    assert {level: tuple(value.shape[1:]) for level, value in features.items()} == {
        3: (8 * expansion, 10, 17),
        5: (32 * expansion, 3, 5),
    }
