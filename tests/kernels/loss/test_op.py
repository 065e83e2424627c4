import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_kernels.assign import assign
from fcos_kernels.loss import detection_loss, plain_focal, reference

INF = float("inf")
GRIDS, STRIDES, STARTS = [(9, 11), (5, 6), (3, 3)], [8, 16, 32], [4, 8, 16]
RANGES = [(0, 32), (32, 64), (64, INF)]
CLASSES = 5
BOXES = torch.tensor(
    [(3.0, 2, 40, 30), (10, 10, 80, 70), (50, 30, 88, 72), (5, 20, 66, 60), (30, 30, 30, 50), (20, 6, 77, 66.5)]
)
LABELS = torch.tensor([0, 4, 2, 2, 1, 3], dtype=torch.int32)
OFFSETS = torch.tensor([0, 3, 6])
# the last box of the first image is a crowd
IGNORE = torch.tensor([False, False, True, False, False, False])
DEFAULTS = {
    "activation": "exp",
    "box_loss": "iou",
    "box_weight": "centerness",
    "iou_smoothing": 1.0,
    "quality": "centerness",
    "alpha": 0.25,
    "gamma": 2.0,
}
TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def assignment(boxes=BOXES, offsets=OFFSETS, ignore=IGNORE):
    return assign(boxes, offsets, grids=GRIDS, strides=STRIDES, starts=STARTS, ranges=RANGES, ignore=ignore)


def head_outputs(seed=0, dtype=torch.float32, memory_format=torch.contiguous_format, quality=True, spread=2.0):
    generator = torch.Generator().manual_seed(seed)

    def level(channels, shift):
        return [
            (torch.randn(2, channels, *grid, generator=generator) * spread + shift)
            .to(dtype, memory_format=memory_format)
            .requires_grad_()
            for grid in GRIDS
        ]

    scales = torch.tensor([1.0, 0.8, 1.3]).to(torch.promote_types(dtype, torch.float32)).requires_grad_()
    return level(CLASSES, -1), level(4, 0.5), level(1, 0) if quality else None, scales


def flat_inputs(outputs):
    classes, boxes, quality, scales = outputs
    return [*classes, *boxes, *(quality or []), scales]


def run(function, outputs, given_assignment, units=(8.0, 16.0, 32.0), labels=LABELS, boxes=BOXES, **choices):
    exact = function is reference.detection_loss
    normalizers = (given_assignment.positives.clamp(min=1), given_assignment.centerness_sum.clamp(min=1e-6))
    return function(
        *outputs,
        index=given_assignment.index,
        boxes=boxes,
        labels=labels,
        units=units,
        **{
            "strides": STRIDES,
            "starts": STARTS,
            "positives": normalizers[0].double() if exact else normalizers[0],
            "box_normalizer": normalizers[1].double() if exact else normalizers[1],
            **DEFAULTS,
            **choices,
        },
    )


def exact_copy(outputs):
    def copy(tensor):
        return tensor.detach().double().requires_grad_()

    classes, boxes, quality, scales = outputs
    return [copy(x) for x in classes], [copy(x) for x in boxes], quality and [copy(x) for x in quality], copy(scales)


def gradients(losses, outputs, weights=(1.0, 1.0, 1.0)):
    total = sum(weight * loss for weight, loss in zip(weights, losses, strict=True))
    return torch.autograd.grad(total, flat_inputs(outputs))


def check_equal(outputs, given_assignment, weights=(1.0, 1.0, 1.0), **choices):
    dtype = outputs[0][0].dtype
    tolerance = TOLERANCE[dtype]
    losses = run(detection_loss, outputs, given_assignment, **choices)
    exact_outputs = exact_copy(outputs)
    exact = run(reference.detection_loss, exact_outputs, given_assignment, **choices)
    for name, ours, wanted in zip(losses._fields, losses, exact, strict=True):
        assert ours.dtype == torch.promote_types(dtype, torch.float32)
        # inputs are the same bits, and arithmetic is float32 whatever their dtype
        torch.testing.assert_close(ours.double(), wanted, rtol=min(tolerance, 2e-5), atol=1e-7, msg=name)
    pairs = zip(gradients(losses, outputs, weights), gradients(exact, exact_outputs, weights), strict=True)
    for ours, wanted, source in ((a, b, s) for (a, b), s in zip(pairs, flat_inputs(outputs), strict=True)):
        assert ours.dtype == source.dtype
        assert ours.stride() == source.stride()
        size = wanted.abs().max().item() if wanted.numel() else 0.0
        floor = tolerance * size * 1e-2 + 1e-12
        if source.dim() == 4 and source.shape[1] == 1:
            # sigmoid(q) - y cancels: both are rounded, and at most 1
            floor += weights[2] * torch.finfo(losses.quality.dtype).eps / float(given_assignment.positives.clamp(min=1))
        torch.testing.assert_close(ours.double(), wanted, rtol=tolerance, atol=floor)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
def test_values_and_gradients(dtype, memory_format):
    check_equal(head_outputs(dtype=dtype, memory_format=memory_format), assignment())


@pytest.mark.parametrize("box_loss", ["iou", "linear_iou", "giou", "diou", "ciou"])
@pytest.mark.parametrize("smoothing", [0.0, 1.0])
@pytest.mark.parametrize("activation", ["exp", "relu"])
def test_every_box_loss(box_loss, smoothing, activation):
    outputs = head_outputs(seed=3, dtype=torch.float64)
    if activation == "relu":
        for output in outputs[1]:
            output.data.abs_().add_(0.05)
    check_equal(outputs, assignment(), box_loss=box_loss, iou_smoothing=smoothing, activation=activation)


@given(
    st.integers(0, 1000),
    st.sampled_from([0.0, 0.5, 1.0, 1.7, 2.0, 3.0]),
    st.sampled_from([0.0, 0.25, 0.9, 1.0]),
    st.sampled_from(["centerness", "none"]),
    st.sampled_from(["centerness", "iou", "none"]),
    st.sampled_from([(1.0, 1.0, 1.0), (8.0, 16.0, 32.0)]),
    st.tuples(*[st.sampled_from([1.0, 0.5, 4.0])] * 3),
)
@settings(max_examples=40, deadline=None)
def test_every_choice(seed, gamma, alpha, box_weight, quality, units, weights):
    outputs = head_outputs(seed, quality=quality != "none")
    if units[0] == 1:
        for output in outputs[1]:
            output.data.add_(2)
    choices = {"gamma": gamma, "alpha": alpha, "box_weight": box_weight, "quality": quality, "units": units}
    check_equal(outputs, assignment(), weights, **choices)


def test_gradcheck():
    outputs = head_outputs(dtype=torch.float64, spread=1.0)
    given_assignment = assignment()

    # not CIoU: its trade-off counts as a constant, so its gradient is not the slope
    def losses(*flat):
        return tuple(run(detection_loss, (flat[:3], flat[3:6], flat[6:9], flat[9]), given_assignment, box_loss="diou"))

    assert torch.autograd.gradcheck(losses, flat_inputs(outputs), fast_mode=True)


def test_ignored_locations_carry_nothing():
    outputs = head_outputs()
    found = assignment()
    assert (found.index == -2).any()
    image, location = (found.index[:, :99] == -2).nonzero(as_tuple=True)
    outputs[0][0].data[image, :, location // 11, location % 11] = 1e4
    check_equal(outputs, found)
    grad = gradients(run(detection_loss, outputs, found), outputs)[0]
    assert (grad[image, :, location // 11, location % 11] == 0).all()
    with torch.no_grad():
        before = outputs[0][0].clone()
        quiet = run(detection_loss, outputs, found)
    torch.testing.assert_close(quiet.classification, run(detection_loss, outputs, found).classification)
    assert torch.equal(outputs[0][0], before)


@pytest.mark.parametrize("rows", [[], [(5.0, 5, 5, 9), (1, 1, 2, 2)]], ids=["no boxes", "no positives"])
def test_without_positives_box_and_quality_are_zero_and_connected(rows):
    boxes = torch.tensor(rows).reshape(-1, 4)
    found = assignment(boxes, torch.tensor([0, len(rows), len(rows)]), ignore=None)
    outputs = head_outputs()
    losses = run(detection_loss, outputs, found, boxes=boxes, labels=LABELS[: len(boxes)])
    assert losses.box.item() == losses.quality.item() == 0
    assert losses.box.requires_grad
    assert losses.quality.requires_grad
    assert losses.classification > 0
    grads = gradients(losses, outputs)
    assert all(grad.isfinite().all() for grad in grads)
    assert all((grad == 0).all() for grad in grads[3:])


@pytest.mark.parametrize("activation", ["exp", "relu"])
@pytest.mark.parametrize("box_loss", ["iou", "linear_iou", "giou", "diou", "ciou"])
@pytest.mark.parametrize("smoothing", [0.0, 1.0])
@pytest.mark.parametrize("extreme", [1e4, -1e4, 0.0])
def test_extremes_stay_finite(activation, box_loss, smoothing, extreme):
    outputs = head_outputs()
    for output in flat_inputs(outputs)[:-1]:
        output.data.fill_(extreme)
    losses = run(
        detection_loss, outputs, assignment(), activation=activation, box_loss=box_loss, iou_smoothing=smoothing
    )
    assert all(loss.isfinite() for loss in losses)
    assert all(grad.isfinite().all() for grad in gradients(losses, outputs))


def test_mixed_extremes_of_classification_equal_the_exact_ones():
    outputs = head_outputs()
    for output in outputs[0]:
        values = torch.tensor([1e4, -1e4, 88.0, -88.0, 20.0, -20.0, 2.2, 2.1, 0.0])
        output.data.copy_(values[torch.arange(output.numel()) % 9].view_as(output))
    check_equal(outputs, assignment())


def test_several_chunks_equal_one(monkeypatch):
    whole = run(detection_loss, head_outputs(), assignment())
    monkeypatch.setattr(plain_focal, "CPU_CHUNK_PER_THREAD", 100)
    check_equal(head_outputs(), assignment())
    torch.testing.assert_close(run(detection_loss, head_outputs(), assignment()), whole)


def test_slices_are_accepted():
    outputs = head_outputs()
    sliced = [torch.cat([x.detach()] * 2, dim=1)[:, :CLASSES].requires_grad_() for x in outputs[0]]
    assert not sliced[0].is_contiguous()
    losses = run(detection_loss, (sliced, *outputs[1:]), assignment())
    expected = run(detection_loss, outputs, assignment())
    torch.testing.assert_close(losses, expected)
    torch.testing.assert_close(gradients(losses, (sliced, *outputs[1:])), gradients(expected, outputs))


def test_autocast_changes_nothing():
    outputs = head_outputs(dtype=torch.bfloat16)
    plain = run(detection_loss, outputs, assignment())
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = run(detection_loss, outputs, assignment())
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))
    assert all(torch.equal(a, b) for a, b in zip(gradients(plain, outputs), gradients(cast, outputs), strict=True))


def test_small_float16_gradients_survive_a_loss_scale():
    outputs = head_outputs(dtype=torch.float16)
    for output in outputs[0]:
        output.data.fill_(-4.6)
    found = assignment()
    found = found._replace(positives=torch.tensor(20000.0))  # as in a large batch: 1 / positives is below float16
    losses = run(detection_loss, outputs, found)
    (grad,) = torch.autograd.grad(losses.classification * 65536, outputs[0][:1])
    exact_outputs = exact_copy(outputs)
    exact = run(reference.detection_loss, exact_outputs, found)
    (wanted,) = torch.autograd.grad(exact[0] * 65536, exact_outputs[0][:1])
    torch.testing.assert_close(grad.double(), wanted, rtol=2e-3, atol=1e-7)


def test_two_backward_passes_through_one_graph_agree():
    outputs = head_outputs()
    losses = run(detection_loss, outputs, assignment())
    total = losses.classification * 0.5 + losses.box
    first = torch.autograd.grad(total, outputs[0], retain_graph=True)
    second = torch.autograd.grad(total, outputs[0])
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_inputs_that_need_no_gradient():
    outputs = head_outputs()
    for output in outputs[0]:
        output.requires_grad_(False)
    losses = run(detection_loss, outputs, assignment())
    rest = flat_inputs(outputs)[3:]
    whole = head_outputs()
    wanted = gradients(run(detection_loss, whole, assignment()), whole)[3:]
    torch.testing.assert_close(torch.autograd.grad(sum(losses), rest), wanted)


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"activation": "softplus"}, ValueError, "activation must be one of exp, relu, not 'softplus'"),
        ({"box_loss": "l1"}, ValueError, "box_loss must be one of"),
        ({"box_weight": "iou"}, ValueError, "box_weight must be one of"),
        ({"quality": "none"}, ValueError, "quality_logits must be None with quality 'none'"),
        ({"iou_smoothing": -1.0}, ValueError, "iou_smoothing"),
        ({"alpha": 1.5}, ValueError, "alpha"),
        ({"gamma": -1.0}, ValueError, "gamma"),
        ({"gamma": float("inf")}, ValueError, "gamma must be 0 or above and finite"),
        ({"alpha": None}, TypeError, "alpha must be a number, not NoneType"),
        ({"iou_smoothing": float("inf")}, ValueError, "iou_smoothing must be 0 or above and finite"),
        ({"units": (8.0, 16.0, float("inf"))}, ValueError, "units must be finite"),
        ({"strides": (8, 0, 32)}, ValueError, "strides must be above 0"),
        ({"strides": (8.0, 16.0, 32.0)}, TypeError, "strides must be whole numbers"),
        ({"starts": (4, 8, 2**24)}, ValueError, r"within 2\^24 pixels"),
        ({"units": (8.0, 0.0, 32.0)}, ValueError, "units must be above 0"),
        ({"units": (8.0, 16.0)}, ValueError, "units must have 3 entries"),
        ({"units": 8.0}, TypeError, "units must be a list with an entry per level, not 8.0"),
        ({"labels": LABELS + CLASSES}, ValueError, rf"labels must be within 0..{CLASSES - 1}, not"),
        ({"labels": LABELS - CLASSES}, ValueError, rf"labels must be within 0..{CLASSES - 1}, not -"),
        ({"labels": LABELS.long()}, TypeError, "labels must be int32"),
        ({"labels": LABELS[:2]}, ValueError, r"labels must have shape \[6\]"),
        ({"boxes": BOXES.double()}, TypeError, "boxes must be float32"),
        ({"positives": torch.ones(2)}, ValueError, r"positives must have shape \[\]"),
        ({"positives": 3.0}, TypeError, "positives must be a tensor"),
        ({"box_normalizer": torch.ones(0)}, ValueError, r"box_normalizer must have shape \[\]"),
        ({"box_normalizer": torch.ones((), device="meta")}, ValueError, "box_normalizer must be on cpu"),
    ],
)
def test_bad_choices_are_named(change, error, words):
    with pytest.raises(error, match=words):
        run(detection_loss, head_outputs(), assignment(), **change)


def test_bad_outputs_are_named():
    classes, boxes, quality, scales = head_outputs()
    found = assignment()
    with pytest.raises(ValueError, match=r"box_outputs\[1\] must have shape \[2, 4, 5, 6\]"):
        run(detection_loss, (classes, [boxes[0], boxes[0], boxes[2]], quality, scales), found)
    with pytest.raises(TypeError, match=r"class_logits\[0\] must be float32 or bfloat16"):
        run(detection_loss, ([x.long() for x in classes], boxes, quality, scales), found)
    with pytest.raises(ValueError, match="quality_logits must be given"):
        run(detection_loss, (classes, boxes, None, scales), found)
    with pytest.raises(ValueError, match=r"scales must have shape \[3\]"):
        run(detection_loss, (classes, boxes, quality, scales[:2]), found)
    with pytest.raises(ValueError, match="index must be below 6, not 6"):
        run(detection_loss, (classes, boxes, quality, scales), found._replace(index=found.index.clamp(min=6)))
    with pytest.raises(ValueError, match="index must have shape"):
        run(detection_loss, (classes, boxes, quality, scales), found._replace(index=found.index[:, 1:]))


def test_defaults_are_the_papers():
    outputs, found = head_outputs(), assignment()
    wanted = run(detection_loss, outputs, found, units=(1.0, 1.0, 1.0))
    sums = {"box_normalizer": found.centerness_sum.clamp(min=1e-6)}
    given = {"index": found.index, "boxes": BOXES, "labels": LABELS, "strides": STRIDES}
    assert detection_loss(*outputs, **given, **sums) == wanted
    with_ones = (*outputs[:3], torch.ones(3))
    assert detection_loss(*outputs[:3], **given, **sums) == detection_loss(*with_ones, **given, **sums)


def test_a_normalizer_is_counted_or_asked_for():
    outputs, found = head_outputs(quality=False), assignment()
    given = {"index": found.index, "boxes": BOXES, "labels": LABELS, "strides": STRIDES}
    counted = detection_loss(*outputs, **given, box_weight="none")
    choices = {"box_weight": "none", "quality": "none", "box_normalizer": found.positives}
    assert counted == run(detection_loss, outputs, found, units=(1.0, 1.0, 1.0), **choices)
    nothing = given | {"index": torch.full_like(found.index, -1)}
    assert detection_loss(*outputs, **nothing, box_weight="none").box == 0
    with pytest.raises(ValueError, match="box_normalizer must be given with box_weight 'centerness'"):
        detection_loss(*outputs, **given)
    with pytest.raises(TypeError, match="strides must be whole numbers"):
        detection_loss(*outputs, **given | {"strides": ["8", 16, 32]})
