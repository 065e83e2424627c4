"""Ops that torchvision has, too: the same values, gradients and rows; where it imports, the benchmark times it."""

import json

import pytest
import torch

from fcos_kernels.bench import __main__ as command
from fcos_kernels.bench import problems, timing
from fcos_kernels.loss.box import box_loss
from fcos_kernels.loss.focal import focal_loss
from fcos_kernels.nms import nms


def corners(distances: torch.Tensor) -> torch.Tensor:
    """Boxes [K, 4] around locations that lie far apart, from l, t, r, b."""
    at = torch.arange(len(distances), dtype=distances.dtype)[:, None] * 1000
    return torch.cat([at - distances[:, :2], at + distances[:, 2:]], dim=1)


def random(*shape: int, seed: int) -> torch.Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def same_with_gradient(ours: torch.Tensor, theirs: torch.Tensor, given: torch.Tensor) -> None:
    torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=0)
    (own,), (other,) = (torch.autograd.grad(loss, given) for loss in (ours, theirs))
    torch.testing.assert_close(own, other, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.6, 1.5)])
def test_focal_loss(torchvision, alpha, gamma):
    logits = (random(60, 7, seed=1) * 12 - 6).requires_grad_()
    labels = torch.arange(60) % 8 - 1
    target = torch.nn.functional.one_hot(labels + 1, 8)[:, 1:].double()
    theirs = torchvision.ops.sigmoid_focal_loss(logits, target, alpha, gamma, reduction="sum")
    same_with_gradient(focal_loss(logits, labels, alpha=alpha, gamma=gamma), theirs, logits)


@pytest.mark.parametrize("kind", ["giou", "diou", "ciou"])
def test_box_loss(torchvision, kind):
    predicted, target = (random(50, 4, seed=2) * 90 + 1).requires_grad_(), random(50, 4, seed=3) * 90 + 1
    name = {"giou": "generalized_box_iou_loss", "diou": "distance_box_iou_loss", "ciou": "complete_box_iou_loss"}[kind]
    theirs = getattr(torchvision.ops, name)(corners(predicted), corners(target), reduction="sum")
    same_with_gradient(box_loss(predicted, target, kind), theirs, predicted)


@pytest.mark.parametrize("count", [1, 200, 3000])
def test_nms(torchvision, count):
    corner = random(count, 2, seed=4) * 300
    boxes = torch.cat([corner, corner + random(count, 2, seed=5) * 80 + 1], dim=1).float()
    scores, classes = random(count, seed=6).float(), torch.arange(count) % 3
    theirs = torchvision.ops.boxes._batched_nms_vanilla(boxes, scores, classes, 0.613)
    assert nms(boxes, scores, classes, 0.613).tolist() == theirs.tolist()


def test_the_benchmark_times_it(torchvision, monkeypatch, tmp_path):
    size = problems.Size("small", 2, 96, 128, 3)
    monkeypatch.setattr(problems, "sizes", lambda device: [size, size])
    monkeypatch.setitem(timing.COPY_BYTES, "cpu", 1 << 16)
    ops = ["detection_loss", "nms", "postprocess"]
    assert command.main(["--device", "cpu", "--seconds", "0.01", *ops, "--json", str(tmp_path / "figures.json")]) == 0
    results = json.loads((tmp_path / "figures.json").read_text())["results"]
    assert {result["op"] for result in results if "torchvision" in result["ms"]} == set(ops)
