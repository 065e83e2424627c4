"""The Triton kernels of the losses; compiled where there is a GPU, else in Triton's interpreter."""

import itertools

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

pytest.importorskip("triton")

from fcos_kernels.common import dispatch
from fcos_kernels.common.outputs import Outputs
from fcos_kernels.loss import launch as loss_launch
from fcos_kernels.loss import launch_backward, reference
from fcos_kernels.loss import plain as loss_plain
from fcos_kernels.loss import scale as loss_scale
from fcos_kernels.loss.focal import _focal_loss, focal_loss
from fcos_kernels.loss.op import _detection_loss, detection_loss
from fcos_kernels.loss.types import FLOAT16_GAIN, AssignedTargets, Gradients, Settings

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LAYOUTS = [torch.contiguous_format, torch.channels_last]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
BOX_LOSSES = ["iou", "linear_iou", "giou", "diou", "ciou"]
GRIDS = [(9, 11), (5, 6), (3, 3)]
STRIDES, STARTS = (8, 16, 32), (4, 8, 16)
DEFAULTS = Settings(STRIDES, STARTS, (8.0, 16.0, 32.0), "exp", "iou", "centerness", 1.0, "centerness", 0.25, 2.0)
# the interpreter cuts float32 off where a GPU rounds it to bfloat16
ROUNDING = {
    torch.float32: 1e-5,
    torch.bfloat16: 4e-3 if DEVICE.type == "cuda" else 8e-3,
    torch.float16: 1e-3,
    torch.float64: 1e-5,
}


@pytest.fixture(autouse=True)
def empty_is_nan():
    """Every buffer that torch.empty makes starts as NaN, those of the launchers too."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(before)


def problem(dtype=torch.float32, layout=torch.contiguous_format, classes=5, grids=GRIDS, positives=0.2, seed=0, **more):
    """Outputs and targets: some locations of each level in a box, some left out, the rest background."""
    images, boxes, quality = more.get("images", 2), more.get("boxes", 6), more.get("quality", True)
    generator = torch.Generator().manual_seed(seed)

    def level(channels, shift):
        return [
            (torch.randn(images, channels, *grid, generator=generator) * 2 + shift)
            .to(DEVICE, dtype)
            .contiguous(memory_format=layout)
            for grid in grids
        ]

    outputs = Outputs(level(classes, -1), level(4, 0.5), level(1, 0) if quality else [], torch.tensor([1.0, 0.8, 1.3]))
    outputs = outputs._replace(scales=outputs.scales[: len(grids)].to(DEVICE))
    corner = torch.rand(boxes, 2, generator=generator) * -40 - 1
    reach = max(stride * max(grid) for stride, grid in zip(STRIDES, grids, strict=False))
    far = torch.rand(boxes, 2, generator=generator) * 80 + reach
    cells = sum(rows * columns for rows, columns in grids)
    lot = torch.rand(images, cells, generator=generator)
    row = torch.randint(max(boxes, 1), (images, cells), generator=generator, dtype=torch.int32)
    index = torch.where(lot < (positives if boxes else 0), row, torch.where(lot > 0.9, -2, -1)).int()
    count = (index >= 0).sum().clamp(min=1).float()
    targets = AssignedTargets(
        index.to(DEVICE),
        torch.cat([corner, far], dim=1).to(DEVICE),
        (torch.arange(boxes) % classes).int().to(DEVICE),
        count.to(DEVICE),
        (count * 0.7).to(DEVICE),
    )
    return outputs, targets


def poisoned(outputs, for_classes=True, for_boxes=True):
    gradients = Gradients.empty(outputs, for_classes, for_boxes)
    for buffer in gradients.flat():
        buffer.fill_(float("nan"))
    return gradients


def run(outputs, targets, settings=DEFAULTS, for_classes=True, for_boxes=True):
    gradients = poisoned(outputs, for_classes, for_boxes)
    return loss_launch.launch(outputs, targets, settings, gradients), gradients


def exact(outputs, targets, settings=DEFAULTS, weights=(1.0, 1.0, 1.0)):
    """Losses and gradients of the float64 reference."""
    leaves = [[x.detach().cpu().double().requires_grad_() for x in group] for group in (*outputs[:3], [outputs.scales])]
    cpu = AssignedTargets(*(x.cpu() for x in targets))
    losses = reference.detection_loss(
        leaves[0],
        leaves[1],
        leaves[2] or None,
        leaves[3][0],
        **{**cpu._asdict(), "positives": cpu.positives.double(), "box_normalizer": cpu.box_normalizer.double()},
        **{**settings._asdict(), "strides": settings.strides[: len(leaves[0])], "starts": settings.starts},
    )
    flat = list(itertools.chain(*leaves))
    total = sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
    return losses, torch.autograd.grad(total, flat, allow_unused=True, materialize_grads=True)


def check(outputs, targets, settings=DEFAULTS):
    losses, gradients = run(outputs, targets, settings)
    wanted, wanted_gradients = exact(outputs, targets, settings)
    for ours, theirs in zip(losses, wanted, strict=True):
        assert ours.dtype == torch.float32
        torch.testing.assert_close(ours.cpu().double(), theirs, rtol=1e-5, atol=1e-7)
    half = outputs.classes[0].dtype == torch.float16
    unwind = 1 / (FLOAT16_GAIN * targets.positives.cpu().double()) if half else 1.0
    for place, (ours, theirs) in enumerate(zip(gradients.flat(), wanted_gradients, strict=True)):
        found = ours.cpu().double() * (unwind if place < len(outputs.classes) else 1.0)
        size = float(theirs.abs().max()) if theirs.numel() else 0.0
        torch.testing.assert_close(found, theirs, rtol=ROUNDING[ours.dtype], atol=2e-6 * size + 1e-10)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("box_loss", BOX_LOSSES)
def test_values_and_gradients(box_loss, dtype, layout):
    check(*problem(dtype, layout), DEFAULTS._replace(box_loss=box_loss))


@given(
    st.integers(0, 1000),
    st.sampled_from(BOX_LOSSES),
    st.sampled_from([0.0, 0.5, 1.0, 1.5, 2.0]),
    st.sampled_from([0.0, 0.25, 1.0]),
    st.sampled_from(["centerness", "none"]),
    st.sampled_from(["centerness", "iou", "none"]),
    st.sampled_from(["exp", "relu"]),
    st.sampled_from([0.0, 1.0]),
    st.sampled_from(LAYOUTS),
)
@settings(max_examples=20, deadline=None)
def test_every_choice(seed, box_loss, gamma, alpha, box_weight, quality, activation, smoothing, layout):
    choices = DEFAULTS._replace(
        box_loss=box_loss,
        gamma=gamma,
        alpha=alpha,
        box_weight=box_weight,
        quality=quality,
        activation=activation,
        iou_smoothing=smoothing,
    )
    outputs, targets = problem(torch.float32, layout, seed=seed, quality=quality != "none")
    if activation == "relu":  # at 0 the reference has no CIoU
        for x in outputs.boxes:
            x.abs_().add_(0.05)
    check(outputs, targets, choices)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("classes", [1, 3, 20, 80, 91])
def test_every_number_of_classes(classes, dtype, layout):
    check(*problem(dtype, layout, classes, images=1))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    "grids",
    [[(16, 20), (8, 10), (4, 5)], [(12, 23), (6, 12), (3, 6)], [(1, 1), (0, 7), (2, 1)], [(40, 53)], [(0, 0)]],
    ids=["wide rows", "half as wide", "an empty level", "several blocks", "nothing"],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_size(dtype, grids, layout):
    outputs, targets = problem(dtype, layout, 8, grids, positives=0.02)
    levels = len(grids)
    check(outputs, targets, DEFAULTS._replace(strides=STRIDES[:levels], starts=STARTS[:levels], units=(8.0,) * levels))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_blocks_of_background_beside_busy_ones(layout):
    """One positive and one location that is left out among thousands, in one of the tiles and the lines."""
    outputs, targets = problem(torch.float32, layout, 8, [(40, 52)], positives=0)
    targets.index.fill_(-1)
    targets.index[1, 700] = 5
    targets.index[0, 2079] = -2
    one = DEFAULTS._replace(strides=(8,), starts=(4,), units=(1.0,))
    check(outputs, targets, one)
    _, gradients = run(outputs, targets, one)
    assert (gradients.classes[0][0, :, -1, -1] == 0).all()
    assert (gradients.boxes[0] != 0).any(1).sum() == 1


@pytest.mark.parametrize(("boxes", "positives"), [(0, 0.0), (3, 0.0), (2000, 0.5)])
def test_few_and_many_boxes(boxes, positives):
    outputs, targets = problem(boxes=boxes, positives=positives)
    check(outputs, targets)
    losses, gradients = run(outputs, targets)
    if not positives:
        assert losses[1].item() == losses[2].item() == 0
        assert all((x == 0).all() for x in gradients.flat()[3:])


def test_identical_boxes_rest():
    """A prediction that is its target: all ties of min and max, gradient 0."""
    outputs, targets = problem()
    targets.index.fill_(-1)
    targets.index[:, 0] = 0
    targets.boxes[0] = torch.tensor([-4.0, -12, 12, 36])
    outputs.boxes[0][:, :, 0, 0] = torch.tensor([1.0, 2, 1, 4], device=DEVICE)
    outputs.scales.fill_(1)
    for box_loss in BOX_LOSSES:
        losses, gradients = run(outputs, targets, DEFAULTS._replace(activation="relu", box_loss=box_loss))
        assert losses[1].item() == pytest.approx(0, abs=1e-6)
        torch.testing.assert_close(gradients.boxes[0], torch.zeros_like(gradients.boxes[0]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("extreme", [1e4, -1e4, 0.0])
@pytest.mark.parametrize("activation", ["exp", "relu"])
@pytest.mark.parametrize("box_loss", BOX_LOSSES)
@pytest.mark.parametrize("smoothing", [0.0, 1.0])
def test_extremes_stay_finite(smoothing, box_loss, activation, extreme):
    outputs, targets = problem(images=1, grids=[(9, 11)])
    for x in (*outputs.classes, *outputs.boxes, *outputs.qualities):
        x.fill_(extreme)
    choices = DEFAULTS._replace(box_loss=box_loss, activation=activation, iou_smoothing=smoothing)
    losses, gradients = run(outputs, targets, choices)
    assert all(x.isfinite().all() for x in (*losses, *gradients.flat()))


@pytest.mark.parametrize("gamma", [2.0, 1.5, 0.0])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_extreme_logits_equal_the_exact_ones(layout, gamma):
    outputs, targets = problem(layout=layout)
    values = torch.tensor([1e4, -1e4, 88.0, -88.0, 20.0, -20.0, 2.2, 0.0, -0.0, 17.0], device=DEVICE)
    for x in outputs.classes:
        x.copy_(values[torch.arange(x.numel(), device=DEVICE) % 10].view(x.shape))
    check(outputs, targets, DEFAULTS._replace(gamma=gamma))


def test_small_probabilities_keep_their_digits():
    logits = torch.linspace(-16, 16, 1601, device=DEVICE)[:, None].contiguous()
    background = torch.full((1601,), -1, dtype=torch.int32, device=DEVICE)
    gradient = torch.empty_like(logits)
    total = loss_launch.launch_focal(logits, background, 0.25, 2.0, gradient)
    leaf = logits.cpu().double().requires_grad_()
    wanted = reference.focal_loss(leaf, torch.zeros_like(leaf), 0.25, 2.0).sum()
    torch.testing.assert_close(total.cpu().double(), wanted, rtol=1e-6, atol=0)
    torch.testing.assert_close(gradient.cpu().double(), torch.autograd.grad(wanted, leaf)[0], rtol=1e-5, atol=0)


def test_repeats_bit_for_bit():
    outputs, targets = problem(torch.bfloat16, grids=[(40, 53), (20, 27), (10, 14)])
    first, second = (run(outputs, targets) for _ in range(2))
    for a, b in zip((*first[0], *first[1].flat()), (*second[0], *second[1].flat()), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("wanted", list(itertools.product([False, True], repeat=2)))
def test_only_wanted_gradients_are_made(wanted):
    outputs, targets = problem()
    losses, gradients = run(outputs, targets, DEFAULTS, *wanted)
    whole, all_gradients = run(outputs, targets)
    assert all(torch.equal(a, b) for a, b in zip(losses, whole, strict=True))
    assert len(gradients.flat()) == 3 * wanted[0] + 7 * wanted[1]
    for mine, its in zip(gradients, all_gradients, strict=True):
        assert mine is None or all(torch.equal(a, b) for a, b in zip(mine, its, strict=False))


def test_plain_pytorch_agrees():
    for dtype, layout in itertools.product(DTYPES, LAYOUTS):
        outputs, targets = problem(dtype, layout)
        losses, gradients = run(outputs, targets)
        plain = poisoned(outputs)
        for ours, theirs in zip(losses, loss_plain.losses(outputs, targets, DEFAULTS, plain), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)
        for ours, theirs in zip(gradients.flat(), plain.flat(), strict=True):
            assert ours.stride() == theirs.stride()
            size = float(theirs.abs().max())
            torch.testing.assert_close(ours, theirs, rtol=2 * ROUNDING[dtype], atol=2e-6 * size)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_op_with_weights_that_are_not_one(dtype, layout):
    outputs, targets = problem(dtype, layout)
    inputs = [x.requires_grad_() for x in (*outputs.classes, *outputs.boxes, *outputs.qualities, outputs.scales)]
    weights = (0.5, 3.0, 1024.0)
    with dispatch.using("triton"):
        losses = call(outputs, targets)
        total = sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
        gradients = torch.autograd.grad(total, inputs)
    _, wanted = exact(outputs, targets, weights=weights)
    for ours, theirs, source in zip(gradients, wanted, inputs, strict=True):
        assert (ours.dtype, ours.stride()) == (source.dtype, source.stride())
        size = float(theirs.abs().max())
        # twice rounded: the buffer and the product; float16 has no numbers below 6e-8
        tolerance = {"rtol": 2 * ROUNDING[dtype], "atol": 1e-5 * size + (6e-8 if dtype == torch.float16 else 0)}
        torch.testing.assert_close(ours.cpu().double(), theirs, **tolerance)


def call(outputs, targets, **changes):
    return detection_loss(
        outputs.classes,
        outputs.boxes,
        outputs.qualities or None,
        outputs.scales,
        **{**targets._asdict(), **DEFAULTS._asdict(), **changes},
    )


@pytest.mark.parametrize("dtype", DTYPES)
def test_scaling_in_place(dtype):
    sizes = [(2, 3, 5, 7), (1,), (0,), (130, 127), (4, 4096)]
    gradients = [torch.randn(size).to(DEVICE, dtype) for size in sizes]
    factors = [torch.tensor(value, device=DEVICE) for value in (2.0, 1.0, 3.0, -0.5, 1.0)]
    wanted = [x * factor.to(dtype) for x, factor in zip(gradients, factors, strict=True)]
    addresses = [x.data_ptr() for x in gradients]
    launch_backward.launch(gradients, factors, None)
    assert all(torch.equal(a, b) for a, b in zip(gradients, wanted, strict=True))
    assert addresses == [x.data_ptr() for x in gradients]


def test_float16_waits_times_a_gain():
    gradients = [torch.full((33,), 8.0, dtype=dtype, device=DEVICE) for dtype in DTYPES]
    factors = [torch.tensor(65536.0, device=DEVICE)] * 3
    launch_backward.launch(gradients, factors, torch.tensor(64.0, device=DEVICE))
    assert [float(x[32]) for x in gradients] == [8.0 * 65536, 8.0 * 65536, 8.0 * 65536 / 64 / FLOAT16_GAIN]


@pytest.mark.parametrize("choice", ["triton", "reference"])
def test_a_second_backward_pass_is_refused_where_buffers_are_spent(monkeypatch, choice):
    monkeypatch.setattr(loss_scale, "in_place", lambda gradients: True)
    outputs, targets = problem()
    inputs = [x.requires_grad_() for x in (*outputs.classes, *outputs.boxes)]
    _, wanted = exact(outputs, targets, weights=(2.0, 2.0, 0.0))
    with dispatch.using(choice):
        losses = call(outputs, targets)
        total = losses.classification * 2 + losses.box * 2
        first = torch.autograd.grad(total, inputs, retain_graph=True)
        for ours, theirs in zip(first, wanted, strict=False):
            torch.testing.assert_close(ours.cpu().double(), theirs, rtol=1e-4, atol=1e-6)
        kept = [x.clone() for x in first]
        with pytest.raises(RuntimeError, match="a second backward pass through the loss"):
            torch.autograd.grad(total, inputs)
        assert all(torch.equal(a, b) for a, b in zip(first, kept, strict=True))


def test_autograd_itself_would_refuse_it(monkeypatch):
    """Even without that message: the version of a saved buffer says that it was changed."""
    monkeypatch.setattr(loss_scale, "in_place", lambda gradients: True)
    monkeypatch.setattr("fcos_kernels.loss.op.refuse_second_use", lambda *_: None)
    outputs, targets = problem()
    inputs = [x.requires_grad_() for x in outputs.classes]
    with dispatch.using("triton"):
        losses = call(outputs, targets)
        torch.autograd.grad(losses.classification, inputs, retain_graph=True)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            torch.autograd.grad(losses.classification, inputs)


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("output", ["classes", "boxes", "qualities", "scales"])
def test_its_gradient_has_no_gradient(output, weighted):
    """A penalty on a gradient is refused, not left out without a word; the gradient itself is as ever."""
    outputs, targets = problem()
    given = getattr(outputs, output)
    given = given if output == "scales" else given[0]
    given.requires_grad_()
    weight = torch.tensor(2.0, device=DEVICE, requires_grad=weighted)
    total = sum(call(outputs, targets)) * weight
    (plain,) = torch.autograd.grad(total, given, retain_graph=True)
    (gradient,) = torch.autograd.grad(total, given, create_graph=True)
    assert torch.equal(plain, gradient)
    assert plain.any()
    with pytest.raises(RuntimeError, match="can be differentiated once"):
        (total + gradient.square().sum()).backward()


def test_mixed_memory_formats_and_dtypes():
    """What the kernels do not take as it is goes through copies or plain PyTorch."""
    outputs, targets = problem()
    wanted = call(outputs, targets)
    mixed = outputs._replace(classes=[outputs.classes[0].contiguous(memory_format=LAYOUTS[1]), *outputs.classes[1:]])
    several = outputs._replace(boxes=[outputs.boxes[0].double(), *outputs.boxes[1:]])
    assert not loss_launch.supports(several, 6)
    with dispatch.using("triton"):
        for changed in (mixed, several):
            torch.testing.assert_close(call(changed, targets), wanted, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("classes", [1, 7, 80])
def test_focal_loss(classes, dtype):
    generator = torch.Generator().manual_seed(1)
    logits = (torch.randn(150, classes, generator=generator) * 4).to(DEVICE, dtype).requires_grad_()
    labels = ((torch.arange(150) * 7) % (classes + 2) - 2).to(DEVICE)
    with dispatch.using("triton"):
        total = focal_loss(logits, labels, alpha=0.3, gamma=1.5)
        (gradient,) = torch.autograd.grad(total * 3, logits)
    leaf = logits.detach().cpu().double().requires_grad_()
    chosen = labels.cpu()
    target = torch.zeros(150, classes)
    target[chosen >= 0, chosen[chosen >= 0]] = 1
    wanted = reference.focal_loss(leaf, target, 0.3, 1.5)[chosen != -2].sum()
    torch.testing.assert_close(total.detach().cpu().double(), wanted.detach(), rtol=1e-5, atol=0)
    (wanted_gradient,) = torch.autograd.grad(wanted * 3, leaf)
    torch.testing.assert_close(gradient.cpu().double(), wanted_gradient, rtol=2 * ROUNDING[dtype], atol=1e-6)


def arguments(dtype=torch.float32, layout=torch.contiguous_format, grids=GRIDS):
    outputs, targets = problem(dtype, layout, grids=grids)
    inputs = [[x.requires_grad_() for x in group] for group in outputs[:3]]
    settings = [list(x) if isinstance(x, tuple) else x for x in DEFAULTS]
    return (*inputs, outputs.scales.requires_grad_(), *targets, *settings, True, True)


@pytest.mark.parametrize("choice", ["triton", "reference"])
def test_opcheck(choice):
    with dispatch.using(choice):
        torch.library.opcheck(_detection_loss, arguments())
        torch.library.opcheck(_detection_loss, arguments(torch.bfloat16, torch.channels_last))
        logits = torch.randn(5, 4, device=DEVICE, requires_grad=True)
        torch.library.opcheck(_focal_loss, (logits, torch.tensor([0, -1, -2, 3, 1], device=DEVICE), 0.25, 2.0, True))


def total_of(outputs, targets):
    losses = call(outputs, targets)
    return losses.classification * 2 + losses.box + losses.quality


@pytest.mark.parametrize("dynamic", [None, True])
def test_compile_with_two_shapes(dynamic):
    torch._dynamo.reset()
    compiled = torch.compile(total_of, fullgraph=True, dynamic=dynamic, backend="aot_eager")
    with dispatch.using("triton"):
        for grids in (GRIDS, [(7, 8), (4, 4), (2, 2)]):
            outputs, targets = problem(grids=grids)
            inputs = [x.requires_grad_() for x in (*outputs.classes, *outputs.boxes, *outputs.qualities)]
            eager, graph = total_of(outputs, targets), compiled(outputs, targets)
            torch.testing.assert_close(graph, eager)
            pairs = zip(torch.autograd.grad(graph, inputs), torch.autograd.grad(eager, inputs), strict=True)
            assert all(torch.allclose(a, b, atol=1e-7) for a, b in pairs)


def test_export():
    class Loss(torch.nn.Module):
        def forward(self, classes, boxes, qualities, scales, *targets):
            return tuple(call(Outputs(classes, boxes, qualities, scales), AssignedTargets(*targets)))

    outputs, targets = problem()
    given = (*outputs, *targets)
    program = torch.export.export(Loss(), given)
    assert any("detection_loss" in str(node.target) for node in program.graph.nodes)
    torch.testing.assert_close(program.module()(*given), Loss()(*given))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_fake_tensors_on_a_gpu(dtype, layout):
    given = arguments(dtype, layout)
    real = _detection_loss(*given)
    with FakeTensorMode(allow_non_fake_inputs=False):

        def fake(x):
            return torch.empty_strided(x.shape, x.stride(), dtype=x.dtype, device="cuda") if torch.is_tensor(x) else x

        unreal = [[fake(y) for y in x] if isinstance(x, list) else fake(x) for x in given]
        *losses, gradients = _detection_loss(*unreal)
        assert [(x.device.type, x.dtype, x.shape) for x in losses] == [("cuda", torch.float32, ())] * 3
    described = [(x.shape, x.stride(), x.dtype) for x in gradients]
    assert described == [(x.shape, x.stride(), x.dtype) for x in real[3]]
    assert {x.device.type for x in gradients} == {"cuda"}


@pytest.mark.parametrize("where", ["box", "scale"])
@pytest.mark.parametrize(
    ("activation", "kind"), [("exp", "iou"), ("relu", "giou"), ("exp", "ciou"), ("relu", "linear_iou")]
)
def test_nan_of_a_box_output_is_not_hidden(activation, kind, where):
    outputs, targets = problem()
    if where == "box":
        image, location = (targets.index[:, : GRIDS[0][0] * GRIDS[0][1]] >= 0).nonzero()[0].tolist()
        outputs.boxes[0][image, 2, location // GRIDS[0][1], location % GRIDS[0][1]] = torch.nan
    else:
        outputs.scales[0] = torch.nan
    losses, gradients = run(outputs, targets, DEFAULTS._replace(activation=activation, box_loss=kind))
    assert losses[1].isnan()
    assert losses[0].isfinite()
    assert gradients.boxes[0].isnan().any()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("grids", [GRIDS, [(8, 16), (4, 4), (2, 4)]])
def test_rows_and_classes_that_do_not_exist_are_background(layout, grids):
    """On a GPU nobody looks at the values beforehand; nothing beside the tables may be read, nothing become NaN."""
    outputs, targets = problem(layout=layout, grids=grids)
    index = targets.index.clone()
    odd = (index >= 0) & (torch.arange(index.shape[1], device=DEVICE) % 2 == 0)
    assert odd.any()
    background = targets._replace(index=torch.where(odd, -1, index))
    wanted, wanted_gradients = run(outputs, background)
    for strange in (len(targets.boxes), 2**31 - 1, -3, -(2**31)):
        losses, gradients = run(outputs, targets._replace(index=torch.where(odd, strange, index)))
        assert all(torch.equal(a, b) for a, b in zip(losses, wanted, strict=True)), strange
        assert all(torch.equal(a, b) for a, b in zip(gradients.flat(), wanted_gradients.flat(), strict=True)), strange
    for strange in (5, 2**31 - 1, -1, -2, -(2**31)):
        labels = torch.full_like(targets.labels, strange)
        losses, gradients = run(outputs, targets._replace(labels=labels))
        alone = targets._replace(index=torch.where(index >= 0, -1, index))
        plain, plain_gradients = run(outputs, alone)
        assert torch.equal(losses[0], plain[0]), strange
        assert all(torch.equal(a, b) for a, b in zip(gradients.classes, plain_gradients.classes, strict=True)), strange


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64])
def test_focal_labels_that_do_not_exist_are_background(dtype):
    logits = torch.randn(70, 5, generator=torch.Generator().manual_seed(3)).to(DEVICE)
    labels = torch.arange(70, device=DEVICE).to(dtype) % 7 - 2
    strange = labels.clone()
    limits = torch.iinfo(dtype)
    values = [5, 70, limits.max, limits.min, -3] + ([2**32 + 1, 2**32 - 2] if dtype == torch.int64 else [])
    for place, value in zip((labels == -1).nonzero()[:, 0].tolist(), values, strict=False):
        strange[place] = value
    with dispatch.using("triton"):
        assert torch.equal(focal_loss(logits, strange), focal_loss(logits, labels))
