"""The Triton kernels of `decode_padded`; compiled where there is a GPU, else in Triton's interpreter."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

pytest.importorskip("triton")

from fcos_kernels.common import dispatch
from fcos_kernels.common.outputs import Outputs
from fcos_kernels.decode import launch as decode_launch
from fcos_kernels.decode import reference
from fcos_kernels.decode.op import _decode_padded, decode, decode_padded
from fcos_kernels.decode.types import Rule

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
LAYOUTS = [torch.contiguous_format, torch.channels_last]
DTYPES = [torch.float32, torch.bfloat16, torch.float16]
GRIDS = [(9, 11), (5, 6), (3, 3)]
STRIDES, STARTS, UNITS = (8, 16, 32), (4, 8, 0), (8.0, 1.0, 32.0)
DEFAULTS = Rule(STRIDES, STARTS, UNITS, "exp", "centerness", 0.05, "class", "score", "sqrt", 1000)
NEAR = 1e-6
"""float32 ranks that are nearer may be in either order."""


def problem(dtype=torch.float32, layout=torch.contiguous_format, classes=5, grids=GRIDS, seed=0, images=2, shift=-3.0):
    generator = torch.Generator().manual_seed(seed)

    def level(channels, shift):
        return [
            (torch.randn(images, channels, *grid, generator=generator) * 2 + shift)
            .to(DEVICE, dtype)
            .contiguous(memory_format=layout)
            for grid in grids
        ]

    scales = torch.tensor([1.0, 0.8, 1.3])[: len(grids)].to(DEVICE)
    sizes = torch.tensor([[61, 80], [72, 88], [20, 30]])[:images].to(DEVICE)
    return Outputs(level(classes, shift), level(4, 1), level(1, 0), scales), sizes


def of_levels(rule, levels):
    return rule._replace(strides=rule.strides[:levels], starts=rule.starts[:levels], units=rule.units[:levels])


def run(outputs, sizes, rule=DEFAULTS):
    if rule.quality not in ("centerness", "iou"):
        outputs = outputs._replace(qualities=[])
    return decode_launch.launch(outputs.dense(), sizes, of_levels(rule, len(outputs.classes)))


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch):
    """Memory that the kernels are given unfilled holds what would be seen."""

    def poison(x):
        return x.fill_(float("nan") if x.is_floating_point() else torch.iinfo(x.dtype).max // 2)

    made, made_alike, made_new = torch.empty, torch.empty_like, torch.Tensor.new_empty
    monkeypatch.setattr(torch, "empty", lambda *size, **how: poison(made(*size, **how)))
    monkeypatch.setattr(torch, "empty_like", lambda *x, **how: poison(made_alike(*x, **how)))
    monkeypatch.setattr(torch.Tensor, "new_empty", lambda *x, **how: poison(made_new(*x, **how)))


def check(outputs, sizes, rule=DEFAULTS, found=None):
    found = run(outputs, sizes, rule) if found is None else found
    most = [min(rule.candidates, x[0].numel()) for x in outputs.classes]
    boxes, scores, labels, levels, locations = (x.cpu().numpy() for x in found)
    assert scores.shape == (len(sizes), sum(most))
    assert [x.dtype for x in found] == [torch.float32, torch.float32, torch.int32, torch.int32, torch.int32]
    total = 0
    for image in range(len(sizes)):
        column, before = 0, 0
        for level, logits in enumerate(outputs.classes):
            own = slice(column, column + most[level])
            rank, score, may, box = reference.of_level(outputs, sizes, rule, level, image)
            count = min(int(may.sum()), most[level])
            assert (levels[image, own] == level).all()
            assert (scores[image, own] >= 0).tolist() == [True] * count + [False] * (most[level] - count)
            rest = slice(column + count, column + most[level])
            assert (scores[image, rest] == -1).all()
            assert not boxes[image, rest].any()
            assert not labels[image, rest].any()
            assert not locations[image, rest].any()
            kept = slice(column, column + count)
            cell, label = locations[image, kept] - before, labels[image, kept]
            pair = cell * logits.shape[1] + label
            assert len(set(pair.tolist())) == count
            assert may[cell, label].all()
            of_kept = rank[cell, label]
            # the best ones, in order, ties by location, then class
            if 0 < count < may.sum():
                left = may.copy()
                left[cell, label] = False
                assert rank[left].max() <= of_kept.min() * (1 + NEAR)
                tied = rank == of_kept[-1]
                assert (np.flatnonzero(left & tied) > pair[of_kept == of_kept[-1]].max()).all()
            assert (of_kept[1:] <= of_kept[:-1] * (1 + NEAR)).all()
            by_rank = np.argsort(of_kept, kind="stable")
            same = of_kept[by_rank][1:] == of_kept[by_rank][:-1]
            assert (np.diff(pair[by_rank])[same] > 0).all()
            np.testing.assert_allclose(scores[image, kept], score[cell, label], rtol=2e-6, atol=1e-30)
            np.testing.assert_allclose(boxes[image, kept], box[cell], rtol=1e-5, atol=1e-4)
            column += most[level]
            before += logits.shape[2] * logits.shape[3]
            total += count
    return total


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("candidates", [7, 1000])
def test_against_float64(candidates, dtype, layout):
    assert check(*problem(dtype, layout), DEFAULTS._replace(candidates=candidates)) >= 30


@given(
    st.integers(0, 1000),
    st.sampled_from(LAYOUTS),
    st.sampled_from(["exp", "relu"]),
    st.sampled_from(["centerness", "iou", "none", "from_box"]),
    st.sampled_from([0.0, 0.05, 0.4]),
    st.sampled_from(["class", "score"]),
    st.sampled_from(["class", "score"]),
    st.sampled_from(["sqrt", "product"]),
    st.sampled_from([1, 7, 60, 1000]),
)
@settings(max_examples=20, deadline=None)
def test_every_choice(seed, layout, activation, quality, threshold, threshold_on, rank_by, score, candidates):
    rule = DEFAULTS._replace(activation=activation, quality=quality, threshold=threshold, threshold_on=threshold_on)
    check(*problem(layout=layout, seed=seed), rule._replace(rank_by=rank_by, score=score, candidates=candidates))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("classes", "grids", "images"),
    [
        (1, [(16, 20), (8, 10), (4, 5)], 1),
        (80, [(12, 23), (6, 12)], 1),
        (91, [(7, 7), (1, 1)], 2),
        (3, [(1, 1), (0, 7), (2, 1)], 3),
        (8, [(0, 0), (40, 53), (1, 2)], 1),
    ],
    ids=["one class", "COCO", "odd", "an empty level", "several tiles"],
)
def test_every_size(classes, grids, images, layout):
    outputs, sizes = problem(torch.bfloat16, layout, classes, grids, images=images)
    check(outputs, sizes, DEFAULTS._replace(candidates=50))


@pytest.mark.parametrize(("images", "classes", "grids"), [(0, 3, GRIDS), (2, 0, GRIDS), (2, 3, [(0, 4), (0, 0)])])
def test_nothing_at_all(images, classes, grids):
    outputs, sizes = problem(classes=classes, grids=grids, images=images)
    assert run(outputs, sizes).scores.numel() == 0


@pytest.mark.parametrize("quality", ["centerness", "none", "from_box"])
def test_nothing_above_the_threshold(quality):
    assert check(*problem(shift=-40), DEFAULTS._replace(quality=quality)) == 0


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("candidates", [1, 40, 495, 5000])
def test_all_alike(candidates, layout):
    """Every pair is a candidate and every rank is the same: location, then class decide."""
    outputs, sizes = problem(layout=layout)
    for x in (*outputs.classes, *outputs.qualities):
        x.fill_(0.5)
    found = run(outputs, sizes, DEFAULTS._replace(candidates=candidates))
    check(outputs, sizes, DEFAULTS._replace(candidates=candidates), found)
    first = min(candidates, 9 * 11 * 5)
    pairs = found.location[1, :first] * 5 + found.labels[1, :first]
    assert pairs.tolist() == list(range(first))


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_many_ties_at_the_cut(dtype, layout):
    """Few values: whole groups tie, and the cut goes through one of them, past a block of the selection."""
    outputs, sizes = problem(dtype, layout, 6, [(30, 31), (5, 6), (3, 3)], images=1)
    for x in (*outputs.classes, *outputs.qualities):
        x.copy_((x.abs() * 1.5).round() - 2)
    for candidates in (100, 2500):
        check(outputs, sizes, DEFAULTS._replace(candidates=candidates))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("threshold", [0.0, 0.05, 0.9])
def test_extreme_logits(threshold, dtype):
    outputs, sizes = problem(dtype)
    values = torch.tensor([1e4, -1e4, math.inf, -math.inf, math.nan, -math.nan, 20.0, -20.0, 2.2, -0.0, 0.0, 1.0])
    for x in outputs.classes:
        x.copy_(values[torch.arange(x.numel()) % 12].view(x.shape))
    found = run(outputs, sizes, DEFAULTS._replace(threshold=threshold))
    check(outputs, sizes, DEFAULTS._replace(threshold=threshold), found)
    assert all(not x.isnan().any() for x in (found.boxes, found.scores))


@pytest.mark.parametrize("activation", ["exp", "relu"])
@pytest.mark.parametrize("extreme", [1e4, -1e4, math.inf, -math.inf])
def test_extreme_boxes_and_qualities(activation, extreme):
    outputs, sizes = problem()
    for x in (*outputs.boxes, *outputs.qualities):
        x.fill_(extreme)
    for quality in ("centerness", "from_box"):
        check(outputs, sizes, DEFAULTS._replace(activation=activation, quality=quality))


@pytest.mark.parametrize("activation", ["exp", "relu"])
def test_boxes_that_are_no_numbers_stay_none(activation):
    """A network that has diverged must not look as if it found something."""
    outputs, sizes = problem()
    for x in outputs.boxes:
        x.fill_(math.nan)
    found = run(outputs, sizes, DEFAULTS._replace(activation=activation))
    assert found.boxes[found.scores >= 0].isnan().all()
    assert (found.boxes[found.scores < 0] == 0).all()


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("quality", ["centerness", "from_box"])
@pytest.mark.parametrize("candidates", [7, 60, 1000])
def test_more_survivors_than_keys_have_room_for(candidates, quality, layout, monkeypatch):
    outputs, sizes = problem(layout=layout, shift=-1.0)
    rule = DEFAULTS._replace(candidates=candidates, quality=quality)
    wanted = run(outputs, sizes, rule)
    for room in (1, 16, 40):
        monkeypatch.setattr(decode_launch, "LEAST_ROOM", room)
        monkeypatch.setattr(decode_launch, "MOST_ROOM", room)
        monkeypatch.setattr(decode_launch, "SELECT_BLOCK", 64)
        for ours, theirs in zip(run(outputs, sizes, rule), wanted, strict=True):
            assert torch.equal(ours, theirs)
    assert check(outputs, sizes, rule, wanted) > 30


@pytest.mark.parametrize("candidates", [40, 1000])
def test_where_pytorch_sorts(candidates, monkeypatch):
    outputs, sizes = problem()
    rule = DEFAULTS._replace(candidates=candidates)
    wanted = run(outputs, sizes, rule)
    monkeypatch.setattr(decode_launch, "MOST_SORTED", 16)
    for ours, theirs in zip(run(outputs, sizes, rule), wanted, strict=True):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize("threshold", [1e-6, 0.05, 0.5, 0.999])
@pytest.mark.parametrize("dtype", DTYPES)
def test_the_threshold_is_that_of_the_probability(dtype, threshold):
    around = math.log(threshold / (1 - threshold))
    outputs, sizes = problem(dtype, grids=[(20, 21)], classes=4, images=1)
    line = torch.linspace(around - 0.5, around + 0.5, 1680).to(DEVICE, dtype)
    outputs.classes[0].copy_(line.view(1, 4, 20, 21))
    found = run(outputs, sizes, DEFAULTS._replace(threshold=threshold, quality="none", candidates=5000))
    probability = line.cpu().double().sigmoid()
    sure = (probability - threshold).abs() > 2e-7 * threshold
    kept = torch.zeros(1680, dtype=torch.bool)
    rows = found.scores[0] >= 0
    kept[(found.labels[0] * 420 + found.location[0])[rows].long().cpu()] = True
    assert torch.equal(kept[sure], probability[sure] > threshold)
    assert (found.scores[0][rows] > threshold).all()


def test_repeats_bit_for_bit():
    outputs, sizes = problem(torch.bfloat16, grids=[(40, 53), (20, 27), (10, 14)])
    first, second = (run(outputs, sizes, DEFAULTS._replace(candidates=100)) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def call(outputs, sizes, **changes):
    return decode_padded(*outputs[:2], outputs.qualities or None, outputs.scales, sizes, DEFAULTS._replace(**changes))


@pytest.mark.parametrize("choice", ["triton", "reference"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_op_on_both_routes(layout, choice):
    outputs, sizes = problem(torch.bfloat16, layout)
    outputs.classes[0].requires_grad_()
    with dispatch.using(choice):
        found = call(outputs, sizes, candidates=20)
    assert not found.scores.requires_grad
    assert check(outputs, sizes, DEFAULTS._replace(candidates=20), found) > 50


@pytest.mark.parametrize("choice", ["triton", "reference"])
def test_same_rows_as_decode(choice):
    outputs, sizes = problem(torch.float16, seed=5)
    with dispatch.using(choice):
        ours = call(outputs, sizes, candidates=30)
    ragged = decode(*outputs, sizes, DEFAULTS._replace(candidates=30))
    rows = ours.scores >= 0
    assert torch.equal(rows.nonzero()[:, 0], ragged.image)
    for name in ("labels", "level", "location"):
        assert torch.equal(getattr(ours, name)[rows].long(), getattr(ragged, name)), name
    torch.testing.assert_close(ours.scores[rows], ragged.scores, rtol=1e-6, atol=0)
    torch.testing.assert_close(ours.boxes[rows], ragged.boxes, rtol=1e-6, atol=1e-5)


def test_what_the_kernels_do_not_take_goes_another_way():
    outputs, sizes = problem()
    wanted = call(outputs, sizes)
    mixed = outputs._replace(classes=[outputs.classes[0].contiguous(memory_format=LAYOUTS[1]), *outputs.classes[1:]])
    several = outputs._replace(boxes=[outputs.boxes[0].double(), *outputs.boxes[1:]])
    assert not decode_launch.supports(several, DEFAULTS)
    with dispatch.using("triton"):
        for changed in (mixed, several):
            for ours, theirs in zip(call(changed, sizes), wanted, strict=True):
                torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-5)


def op_arguments(dtype, layout):
    outputs, sizes = problem(dtype, layout, grids=[(5, 6)], images=1)
    rule = [list(x) if isinstance(x, tuple) else x for x in of_levels(DEFAULTS, 1)]
    return (*outputs, sizes, *rule)


@pytest.mark.parametrize("choice", ["triton", "reference"])
def test_opcheck(choice):
    with dispatch.using(choice):
        for dtype, layout in zip(DTYPES, LAYOUTS, strict=False):
            torch.library.opcheck(_decode_padded, op_arguments(dtype, layout))


def test_fake_tensors_of_a_gpu():
    with FakeTensorMode():
        there = [[torch.ones(2, c, *grid, device="cuda") for grid in GRIDS] for c in (5, 4, 1)]
        outputs = Outputs(*there, torch.ones(3, device="cuda"))
        for where in ("cpu", "cuda"):
            found = call(outputs, torch.ones(2, 2, dtype=torch.int64, device=where), candidates=100)
    assert found.boxes.shape == (2, 100 + 100 + 45, 4)
    assert {x.device.type for x in found} == {"cuda"}


def test_compile_with_two_shapes():
    torch._dynamo.reset()
    compiled = torch.compile(call, fullgraph=True, backend="aot_eager")
    with dispatch.using("triton"):
        for grids in (GRIDS, [(7, 8), (4, 4), (2, 2)]):
            outputs, sizes = problem(grids=grids)
            for ours, theirs in zip(compiled(outputs, sizes), call(outputs, sizes), strict=True):
                assert torch.equal(ours, theirs)
