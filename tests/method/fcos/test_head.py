import math

import pytest
import torch
from torch import nn

from fcos_cli.errors import RecipeError
from fcos_cli.geometry.pyramid import build_pyramid
from fcos_cli.method.fcos.head import FCOSHead
from fcos_cli.method.fcos.tables import FCOSHeadConfig

LEVELS = [(7, 9), (4, 5), (2, 3)]
P3_TO_P5, P3_TO_P7 = build_pyramid([3, 4, 5]), build_pyramid([3, 4, 5, 6, 7])


def levels(channels=8):
    return [torch.randn(2, channels, *grid) for grid in LEVELS]


def test_has_the_published_parameters():
    with torch.device("meta"):
        head = FCOSHead(FCOSHeadConfig(), 256, 80, P3_TO_P7)
    towers = 2 * 4 * (256 * 256 * 9 + 256 + 2 * 256)
    predictions = (80 + 4 + 1) * (256 * 9 + 1)
    assert sum(p.numel() for p in head.parameters()) == towers + predictions + 5


def test_outputs_one_map_a_level():
    outputs = FCOSHead(FCOSHeadConfig(groups=4), 8, 3, P3_TO_P5)(levels())
    assert [tuple(t.shape) for t in outputs["classification"]] == [(2, 3, *grid) for grid in LEVELS]
    assert [tuple(t.shape) for t in outputs["box"]] == [(2, 4, *grid) for grid in LEVELS]
    assert [tuple(t.shape) for t in outputs["quality"]] == [(2, 1, *grid) for grid in LEVELS]


def test_starts_at_the_papers_values():
    torch.manual_seed(0)
    head = FCOSHead(FCOSHeadConfig(), 64, 20, P3_TO_P7)
    assert torch.equal(head.scales, torch.ones(5))
    for conv in (m for m in head.modules() if isinstance(m, nn.Conv2d)):
        assert conv.weight.mean().abs() < 0.002
        assert conv.weight.std().item() == pytest.approx(0.01, rel=0.1)
        bias = -math.log(99) if conv is head.class_logits else 0.0
        assert torch.allclose(conv.bias, torch.full_like(conv.bias, bias))
    logits = head([torch.randn(1, 64, 8, 8)])["classification"][0]
    assert logits.sigmoid().mean().item() == pytest.approx(0.01, rel=0.1)


@pytest.mark.parametrize(("tower", "branch"), [("classification", "class_tower"), ("regression", "box_tower")])
def test_quality_branch_sits_on_the_wanted_tower(tower, branch):
    head = FCOSHead(FCOSHeadConfig(groups=4, quality_tower=tower), 8, 3, P3_TO_P5)
    outputs = head(levels())
    sum(level.sum() for level in outputs["quality"]).backward()
    reached = {name.split(".")[0] for name, p in head.named_parameters() if p.grad is not None}
    assert reached == {branch, "quality"}


@pytest.mark.parametrize("quality", ["none", "from_box"])
def test_no_branch_where_none_is_wanted(quality):
    head = FCOSHead(FCOSHeadConfig(groups=4, quality=quality), 8, 3, P3_TO_P5)
    assert "quality" not in head(levels())
    assert not any("quality" in name for name in head.state_dict())


def test_towers_without_norm_or_convolutions():
    head = FCOSHead(FCOSHeadConfig(norm="none", convs=2), 6, 3, P3_TO_P5)
    assert [type(layer) for layer in head.class_tower] == [nn.Conv2d, nn.ReLU] * 2
    bare = FCOSHead(FCOSHeadConfig(convs=0), 6, 3, P3_TO_P5)
    assert len(bare.box_tower) == 0
    assert bare(levels(6))["box"][0].shape == (2, 4, 7, 9)


def by_modules(tower, maps):
    """A tower as its modules say it: every level alone, GroupNorm and ReLU apart."""
    return [nn.Sequential(*tower)(level) for level in maps]


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_towers_are_what_their_modules_say(memory_format):
    torch.manual_seed(0)
    head = FCOSHead(FCOSHeadConfig(groups=4, convs=2), 8, 3, P3_TO_P5)
    keys = [f"class_tower.{layer}.{name}" for layer in (0, 1, 3, 4) for name in ("weight", "bias")]
    assert [key for key in head.state_dict() if key.startswith("class_tower")] == keys
    for parameter in head.class_tower.parameters():
        nn.init.normal_(parameter)
    maps = [level.contiguous(memory_format=memory_format) for level in levels()]
    found, wanted = head.class_tower(maps), by_modules(head.class_tower, maps)
    torch.testing.assert_close(found, wanted)
    gradients = [
        torch.autograd.grad(sum((out * out).sum() for out in outs), list(head.class_tower.parameters()))
        for outs in (found, wanted)
    ]
    torch.testing.assert_close(*gradients, rtol=1e-4, atol=1e-3)


def test_under_autocast_towers_round_where_the_convolutions_did():
    torch.manual_seed(0)
    head, maps = FCOSHead(FCOSHeadConfig(groups=4), 8, 3, P3_TO_P5), levels()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = head(maps)["classification"]
        wanted = [head.class_logits(features) for features in by_modules(head.class_tower, maps)]
    assert found[0].dtype == torch.bfloat16
    torch.testing.assert_close(found, wanted)
    sum(level.float().sum() for level in found).backward()
    for parameter in head.class_tower.parameters():
        assert parameter.grad.dtype == torch.float32
        assert parameter.grad.isfinite().all()


def test_each_level_alone_gives_the_same():
    torch.manual_seed(0)
    head, maps = FCOSHead(FCOSHeadConfig(groups=4), 8, 3, P3_TO_P5), levels()
    together = head(maps)
    for position, level in enumerate(maps):
        assert torch.allclose(head([level])["classification"][0], together["classification"][position], atol=1e-7)


def test_groups_that_do_not_divide_are_named():
    with pytest.raises(RecipeError, match=r"model\.pyramid\.channels = 40") as caught:
        FCOSHead(FCOSHeadConfig(), 40, 3, P3_TO_P7)
    assert "8" in caught.value.hint
