"""kernels/USAGE.md: its code runs; what replaces torchvision's and mmdetection's gives equal losses and gradients."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

PAGE = Path(__file__).parents[2] / "kernels/USAGE.md"
GRIDS = [(24, 32), (12, 16), (6, 8), (3, 4), (2, 2)]
CLASSES = 6
BOXES = [
    torch.tensor([[10.0, 12, 60, 50], [30, 20, 220, 180], [100, 90, 130, 118], [5, 5, 250, 190]]),
    torch.tensor([[40.0, 30, 90, 160], [120, 60, 210, 150]]),
]
LABELS = [torch.tensor([0, 3, 5, 1]), torch.tensor([2, 2])]


@pytest.fixture(scope="module")
def page(torchvision):
    """What the page's code defines, run from top to bottom."""
    defined: dict[str, object] = {}
    blocks = re.findall(r"```python\n(.*?)```", PAGE.read_text(), re.S)
    assert len(blocks) == 4
    for block in blocks:
        exec(compile(block, str(PAGE), "exec"), defined)
    return SimpleNamespace(**defined)


def outputs():
    rng = torch.Generator().manual_seed(0)

    def level(channels, shift):
        return [(torch.randn(2, channels, *grid, generator=rng) + shift).requires_grad_() for grid in GRIDS]

    return level(CLASSES, -3), level(4, 2.5), level(1, 0)


def with_gradients(losses, given):
    flat = [x for group in given for x in group]
    return list(losses), torch.autograd.grad(sum(losses), flat)


def test_the_same_losses_and_gradients(page):
    given = outputs()
    usual, slopes = with_gradients(page.before(*given, BOXES, LABELS), given)
    ours, own = with_gradients(page.after(*given, BOXES, LABELS), given)
    assert min(usual) > 0.1
    torch.testing.assert_close(ours, usual, rtol=1e-5, atol=0)
    torch.testing.assert_close(own, slopes, rtol=1e-4, atol=1e-7)


def test_a_head_of_mmdetection(page):
    head = page.FusedLosses()
    head.strides, head.regress_ranges, head.norm_on_bbox = page.STRIDES, page.RANGES, True
    head.center_sampling, head.center_sample_radius = False, 1.5
    classes, distances, quality = outputs()
    truth = [SimpleNamespace(bboxes=boxes, labels=labels) for boxes, labels in zip(BOXES, LABELS, strict=True)]
    losses = head.loss_by_feat(classes, [x.relu() for x in distances], quality, truth, [{}, {}])
    assert list(losses) == ["loss_cls", "loss_bbox", "loss_centerness"]
    classification, _, centerness = page.before(classes, distances, quality, BOXES, LABELS)
    torch.testing.assert_close(losses["loss_cls"], classification, rtol=1e-5, atol=0)
    torch.testing.assert_close(losses["loss_centerness"], centerness, rtol=1e-5, atol=0)
    assert 0.1 < losses["loss_bbox"] < 20
    head.center_sampling = True
    assert head.loss_by_feat(classes, distances, quality, truth)["loss_cls"] != classification


def test_the_pieces(page):
    assert page.focal > 0
    assert float(page.giou) == pytest.approx(1 - 20 / 29 + 1 / 30)
    assert page.kept.tolist() == [0]
