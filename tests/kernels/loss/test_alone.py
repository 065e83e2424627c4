"""The public pieces of the detection loss, as a user of torchvision's ops calls them."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from fcos_kernels.loss import reference
from fcos_kernels.loss.box import box_loss
from fcos_kernels.loss.focal import focal_loss

KINDS = ["iou", "linear_iou", "giou", "diou", "ciou"]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_focal_loss_from_the_definition(dtype):
    logits = (torch.randn(40, 7, generator=torch.Generator().manual_seed(1)) * 4).to(dtype).requires_grad_()
    labels = torch.arange(40) % 10 - 2
    labels[labels == 7] = -2
    total = focal_loss(logits, labels, alpha=0.3, gamma=1.5)
    exact = logits.detach().double().requires_grad_()
    target = torch.zeros(40, 7)
    target[labels >= 0, labels[labels >= 0]] = 1
    wanted = reference.focal_loss(exact, target, 0.3, 1.5)[labels != -2].sum()
    torch.testing.assert_close(total.double(), wanted, rtol=1e-5, atol=0)
    (grad,) = torch.autograd.grad(total * 3, logits)
    (wanted_grad,) = torch.autograd.grad(wanted * 3, exact)
    assert grad.dtype == dtype
    tolerance = max(torch.finfo(dtype).eps, 1e-6)
    torch.testing.assert_close(grad.double(), wanted_grad, rtol=tolerance * 4, atol=1e-7)


def test_focal_loss_of_nothing_is_zero():
    logits = torch.zeros(0, 80, requires_grad=True)
    total = focal_loss(logits, torch.zeros(0, dtype=torch.int64))
    total.backward()
    assert total.item() == 0
    assert logits.grad.shape == (0, 80)


def test_relative_precision_of_small_probabilities():
    logits = torch.linspace(-30, 30, 2001)[:, None].requires_grad_()
    background = torch.full((2001,), -1)
    for gamma in (0.0, 2.0):
        total = focal_loss(logits, background, gamma=gamma)
        (grad,) = torch.autograd.grad(total, logits)
        exact = logits.detach().double().requires_grad_()
        wanted = reference.focal_loss(exact, torch.zeros_like(exact), 0.25, gamma).sum()
        (wanted_grad,) = torch.autograd.grad(wanted, exact)
        torch.testing.assert_close(grad.double(), wanted_grad, rtol=2e-6, atol=0)


distance = st.floats(0.0625, 500, width=32)
pairs = st.lists(st.tuples(*[distance] * 8), min_size=1, max_size=8)


@given(pairs, st.sampled_from(KINDS), st.sampled_from([0.0, 1.0]))
@settings(max_examples=60)
def test_box_loss_through_corners(rows, kind, smoothing):
    values = torch.tensor(rows, dtype=torch.float64)
    predicted, target = values[:, :4].clone().requires_grad_(), values[:, 4:]
    weights = torch.linspace(0.1, 1, len(rows), dtype=torch.float64)
    total = box_loss(predicted, target, kind, weights=weights, smoothing=smoothing)
    wanted = (reference.box_loss(predicted, target, kind, smoothing) * weights).sum()
    torch.testing.assert_close(total, wanted, rtol=1e-9, atol=1e-12)
    (grad,) = torch.autograd.grad(total, predicted)
    (wanted_grad,) = torch.autograd.grad(wanted, predicted)
    torch.testing.assert_close(grad, wanted_grad, rtol=1e-8, atol=1e-12)


@pytest.mark.parametrize("kind", KINDS)
def test_a_perfect_box_costs_nothing_and_rests(kind):
    target = torch.tensor([(3.0, 5, 7, 11), (0.5, 0.5, 0.5, 0.5)])
    predicted = target.clone().requires_grad_()
    total = box_loss(predicted, target, kind)
    total.backward()
    assert total.item() == pytest.approx(0, abs=1e-6)
    torch.testing.assert_close(predicted.grad, torch.zeros(2, 4), rtol=0, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_extreme_distances_stay_finite(kind, smoothing):
    values = [0.0, 1e-30, 1e-6, 1.0, 1e4, 2e17]
    predicted = torch.cartesian_prod(*[torch.tensor(values)] * 4).requires_grad_()
    target = torch.tensor([(1e-4, 1e-4, 1e-4, 1e-4), (1, 2, 3, 4), (1e4, 1e4, 1e-3, 1)])
    for row in target:
        total = box_loss(predicted, row.expand(len(predicted), 4), kind, smoothing=smoothing)
        (grad,) = torch.autograd.grad(total, predicted)
        assert total.isfinite()
        assert grad.isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_a_box_of_no_size(kind):
    """Its ratio of sides is 0 / 0."""
    target = torch.tensor([(1.0, 2, 3, 4)], dtype=torch.float64)
    wanted = reference.box_loss(torch.zeros_like(target), target, kind)
    assert wanted.isfinite().all()
    torch.testing.assert_close(box_loss(torch.zeros_like(target), target, kind), wanted.sum())


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_small_targets_stay_finite(kind, smoothing):
    generator = torch.Generator().manual_seed(7)
    values = torch.tensor([1e-12, 1e-3, 1.0, 1e10, 1e17, 0.0])
    target = values[torch.randint(5, (2000, 4), generator=generator)]
    predicted = values[torch.randint(6, (2000, 4), generator=generator)]
    target[:50], predicted[:100] = 1e-12, 0.0
    predicted.requires_grad_()
    total = box_loss(predicted, target, kind, smoothing=smoothing)
    (grad,) = torch.autograd.grad(total, predicted)
    assert total.isfinite()
    assert grad.isfinite().all()


def test_no_pairs():
    predicted = torch.zeros(0, 4, requires_grad=True)
    assert box_loss(predicted, torch.zeros(0, 4)).item() == 0


def test_bad_input_is_named():
    with pytest.raises(ValueError, match="kind must be one of iou, linear_iou"):
        box_loss(torch.ones(1, 4), torch.ones(1, 4), "l1")
    with pytest.raises(ValueError, match=r"target must have shape \[1, 4\]"):
        box_loss(torch.ones(1, 4), torch.ones(2, 4))
    with pytest.raises(ValueError, match="smoothing must be 0 or above and finite"):
        box_loss(torch.ones(1, 4), torch.ones(1, 4), smoothing=float("inf"))
    with pytest.raises(TypeError, match="labels must be int32 or int64"):
        focal_loss(torch.ones(1, 4), torch.ones(1))
    for label in (-3, 4, 2**40):
        with pytest.raises(ValueError, match=rf"labels must be within -2..3, not {label}"):
            focal_loss(torch.ones(1, 4), torch.tensor([label]))
    with pytest.raises(ValueError, match="gamma"):
        focal_loss(torch.ones(1, 4), torch.zeros(1, dtype=torch.int64), gamma=-1)


def test_focal_loss_under_checkpointing():
    logits = torch.randn(5, 3, generator=torch.Generator().manual_seed(4)).requires_grad_()
    labels = torch.tensor([0, -1, 2, -1, -2])
    (wanted,) = torch.autograd.grad(focal_loss(logits, labels), logits)
    checkpoint(focal_loss, logits, labels, use_reentrant=False).backward()
    assert torch.equal(logits.grad, wanted)


@pytest.mark.parametrize("kind", KINDS)
def test_box_loss_compiles_whole(kind):
    predicted = (torch.rand(3, 4, generator=torch.Generator().manual_seed(5)) + 0.1).requires_grad_()
    target = torch.rand(3, 4, generator=torch.Generator().manual_seed(6)) + 0.1
    plain = box_loss(predicted, target, kind)
    compiled = torch.compile(box_loss, fullgraph=True, backend="aot_eager")(predicted, target, kind)
    torch.testing.assert_close(compiled, plain)
    (wanted,), (found,) = (torch.autograd.grad(loss * 3, predicted) for loss in (plain, compiled))
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("dynamic", [None, True])
def test_they_compile_whole_for_several_shapes(dynamic):
    def both(logits, labels, predicted, target, gamma):
        return focal_loss(logits, labels, gamma=gamma) * 2 + box_loss(predicted, target, "ciou", smoothing=1.0)

    torch._dynamo.reset()
    compiled = torch.compile(both, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    generator = torch.Generator().manual_seed(8)
    for rows, gamma in ((5, 2.0), (9, 2.0), (4, 1.5)):
        logits, predicted, target = (torch.rand(rows, 4, generator=generator) + 0.1 for _ in range(3))
        inputs = logits.requires_grad_(), predicted.requires_grad_()
        labels = torch.arange(rows) % 5 - 1
        plain, whole = (f(logits, labels, predicted, target, gamma) for f in (both, compiled))
        torch.testing.assert_close(whole, plain)
        pairs = (torch.autograd.grad(loss, inputs) for loss in (plain, whole))
        for wanted, found in zip(*pairs, strict=True):
            torch.testing.assert_close(found, wanted)


def test_they_export():
    class Both(torch.nn.Module):
        def forward(self, logits, labels, target):
            return focal_loss(logits, labels), box_loss(logits, target, "diou")

    given = torch.rand(6, 4) + 0.1, torch.arange(6) % 4, torch.rand(6, 4) + 0.1
    rows = torch.export.Dim("rows", min=2)
    exported = torch.export.export(Both(), given, dynamic_shapes=({0: rows}, {0: rows}, {0: rows}))
    given = torch.rand(9, 4) + 0.1, torch.arange(9) % 4, torch.rand(9, 4) + 0.1
    torch.testing.assert_close(exported.module()(*given), Both()(*given))


@pytest.mark.parametrize("kind", KINDS)
def test_fake_tensors_of_a_gpu_that_is_not_there(kind):
    with FakeTensorMode():
        rows, weights = torch.empty(5, 4, device="cuda"), torch.empty(5, device="cuda")
        labels = torch.empty(5, dtype=torch.int64, device="cuda")
        for total in (focal_loss(rows, labels), box_loss(rows, rows, kind, weights=weights)):
            assert (total.device.type, total.dtype, total.shape) == ("cuda", torch.float32, ())


@pytest.mark.parametrize("piece", ["focal", "box"])
def test_their_gradients_have_no_gradient(piece):
    given = (torch.rand(6, 4) + 0.5).requires_grad_()
    loss = focal_loss(given, torch.arange(6) % 4) if piece == "focal" else box_loss(given, torch.ones(6, 4))
    (gradient,) = torch.autograd.grad(loss, given, create_graph=True)
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        (loss + gradient.square().sum()).backward()
