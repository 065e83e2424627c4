import pytest
import torch
import torch.nn.functional as F

from fcos_cli.model.fpn import FeaturePyramid, inputs
from fcos_cli.recipe.schema import PyramidConfig

CHANNELS = {2: 3, 3: 4, 4: 5, 5: 6}


def features(height=75, width=130):
    return {
        level: torch.randn(2, channels, -(-height // 2**level), -(-width // 2**level))
        for level, channels in CHANNELS.items()
    }


def modules(network: FeaturePyramid) -> set[str]:
    return {name.removesuffix(".weight") for name in network.state_dict() if name.endswith(".weight")}


@pytest.mark.parametrize(
    ("levels", "extra_from", "names"),
    [
        ([3, 4, 5, 6, 7], "p5", "lateral.c3 lateral.c4 lateral.c5 output.p3 output.p4 output.p5 extra.p6 extra.p7"),
        ([2, 3], "p5", "lateral.c2 lateral.c3 lateral.c4 lateral.c5 output.p2 output.p3"),
        ([4], "p5", "lateral.c4 lateral.c5 output.p4"),
        ([5, 6], "p5", "lateral.c5 output.p5 extra.p6"),
        ([5, 6], "c5", "lateral.c5 output.p5 extra.p6"),
        ([6, 7], "p5", "lateral.c5 output.p5 extra.p6 extra.p7"),
        ([6, 7], "c5", "extra.p6 extra.p7"),
        ([7], "c5", "extra.p6 extra.p7"),
    ],
)
def test_has_what_the_levels_need_and_nothing_else(levels, extra_from, names):
    config = PyramidConfig(channels=8, levels=levels, extra_from=extra_from)
    network = FeaturePyramid(config, CHANNELS)
    assert modules(network) == set(names.split())
    given = {level: value for level, value in features().items() if level in inputs(config)}
    outputs = network(given)
    grids = config.geometry().grids(75, 130)
    assert [tuple(level.shape) for level in outputs] == [(2, 8, *grid) for grid in grids]
    sum(level.sum() for level in outputs).backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


def test_levels_are_the_papers_formulas():
    torch.manual_seed(0)
    network = FeaturePyramid(PyramidConfig(channels=8), CHANNELS).double()
    given = {level: value.double() for level, value in features().items()}
    state = network.state_dict()

    def conv(name, x, **options):
        return F.conv2d(x, state[f"{name}.weight"], state[f"{name}.bias"], **options)

    def up(x, like):
        rows = torch.arange(like.shape[2]) * x.shape[2] // like.shape[2]
        columns = torch.arange(like.shape[3]) * x.shape[3] // like.shape[3]
        return x[:, :, rows][:, :, :, columns]

    m5 = conv("lateral.c5", given[5])
    m4 = conv("lateral.c4", given[4])
    m4 = m4 + up(m5, m4)
    m3 = conv("lateral.c3", given[3])
    m3 = m3 + up(m4, m3)
    p3, p4, p5 = (conv(f"output.p{n}", m, padding=1) for n, m in ((3, m3), (4, m4), (5, m5)))
    p6 = conv("extra.p6", p5, stride=2, padding=1)
    p7 = conv("extra.p7", p6.clamp(min=0), stride=2, padding=1)
    for ours, expected in zip(network(given), (p3, p4, p5, p6, p7), strict=True):
        assert torch.allclose(ours, expected, atol=1e-10)


def test_p6_can_come_from_c5():
    network = FeaturePyramid(PyramidConfig(channels=8, extra_from="c5"), CHANNELS)
    given = features()
    expected = F.conv2d(given[5], network.extra["p6"].weight, network.extra["p6"].bias, 2, 1)
    assert torch.allclose(network(given)[3], expected, atol=1e-6)


def test_starts_at_kaiming_uniform_with_zero_bias():
    torch.manual_seed(0)
    network = FeaturePyramid(PyramidConfig(channels=64), dict.fromkeys(CHANNELS, 128))
    weight = network.output["p3"].weight
    bound = (3 / (64 * 9)) ** 0.5
    assert bound * 0.99 < weight.abs().max() <= bound
    assert all((value == 0).all() for name, value in network.state_dict().items() if name.endswith("bias"))
