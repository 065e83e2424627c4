"""The Triton kernels of suppression; compiled where there is a GPU, else in Triton's interpreter."""

import inspect
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

pytest.importorskip("triton")

from fcos_kernels.common import dispatch
from fcos_kernels.nms import launch as nms_launch
from fcos_kernels.nms.op import _batched_nms, _nms, _packed, batched_nms, batched_nms_packed, nms

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
NAN, INF = float("nan"), float("inf")
side = st.sampled_from([0.0, 1.0, 2.0, 3.3, 5.0, 8.0])
odd = st.sampled_from([(NAN, 0.0, 5.0, 5.0), (0.0, 0.0, INF, 5.0), (-INF, 0.0, -INF, 5.0), (5.0, 5.0, 0.0, 0.0)])
box = st.one_of(
    st.builds(lambda x, y, w, h: (x, y, x + w, y + h), side, side, side, side),
    st.builds(lambda x, y, w, h: (x, y, x + w, y + h), side, side, side, side),
    odd,
)
score = st.sampled_from([0.0, -0.0, 0.1, 0.5, 0.5, 0.9, -1.0, NAN, -NAN, INF, -INF])


def wanted_rows(boxes, scores, classes, threshold, most):
    """One box after another, every IoU and the threshold in float32; no line of the ops."""
    found = torch.full((len(boxes), most), -1)
    scores = torch.where(scores.isnan(), INF, scores)
    for image, (own, own_scores, labels) in enumerate(zip(boxes, scores.tolist(), classes.tolist(), strict=True)):
        low, high = torch.maximum(own[:, None, :2], own[:, :2]), torch.minimum(own[:, None, 2:], own[:, 2:])
        sides = (high - low).clamp(min=0)
        shared = sides[..., 0] * sides[..., 1]
        area = (own[:, 2] - own[:, 0]) * (own[:, 3] - own[:, 1])
        hit = (shared / (area[:, None] + area - shared) > threshold).tolist()
        kept = []
        for row in sorted((r for r, s in enumerate(own_scores) if s >= 0), key=lambda r: (-own_scores[r], r)):
            if len(kept) < most and not any(hit[k][row] and labels[k] == labels[row] for k in kept):
                kept.append(row)
        found[image, : len(kept)] = torch.tensor(kept, dtype=torch.int64)
    return found


def found_rows(boxes, scores, classes, threshold, most, *, chunk=64, rows=32, columns=64, run=32):
    """`batched_nms` by the kernels, on poisoned buffers, with small tiles."""
    torch.use_deterministic_algorithms(True, warn_only=True)  # torch.empty then makes the largest whole number
    try:
        with pytest.MonkeyPatch.context() as patch, dispatch.using("triton"):
            sizes = {"FIRST_CHUNK": columns, "CHUNK": chunk, "ROWS": rows, "COLUMNS": columns, "RUN": run}
            for name, size in sizes.items():
                patch.setattr(nms_launch, name, size)
            arguments = (x.to(DEVICE) for x in (boxes, scores, classes))
            return batched_nms(*arguments, threshold, most).cpu()
    finally:
        torch.use_deterministic_algorithms(False)


def crowd(count, images=1, classes=2, spread=40.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(images, count, 2, generator=generator) * spread
    boxes = torch.cat([corner, corner + torch.rand(images, count, 2, generator=generator) * 30 + 1], dim=2)
    # few different scores: ties
    scores = torch.randint(0, 50, (images, count), generator=generator) / 50
    return boxes, scores, torch.randint(classes, (images, count), generator=generator, dtype=torch.int32)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(box, score, st.integers(0, 1)), min_size=2, max_size=44),
    st.sampled_from([0.0, 0.3, 0.5, 1.0, -1.0, 2.0]),
    st.sampled_from([1, 3, 50]),
    st.integers(1, 2),
)
def test_values_equal_one_after_another(found, threshold, most, images):
    count = len(found) // images
    boxes, scores, classes = (torch.tensor(column)[: count * images] for column in zip(*found, strict=True))
    problem = boxes.view(images, count, 4), scores.view(images, count), classes.view(images, count)
    got = found_rows(*problem, threshold, most)
    assert got.dtype == torch.int64
    assert torch.equal(got, wanted_rows(*problem, threshold, most))


@pytest.mark.parametrize("count", [0, 1, 2, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200])
def test_values_around_the_edges_of_words_and_tiles(count):
    problem = crowd(count, seed=count)
    assert torch.equal(found_rows(*problem, 0.3, count), wanted_rows(*problem, 0.3, count))


@pytest.mark.parametrize(("chunk", "rows", "columns"), [(128, 64, 128), (64, 16, 32), (32, 32, 32)])
def test_values_of_other_tiles_and_images_of_different_counts(chunk, rows, columns):
    boxes, scores, classes = crowd(150, images=3, classes=3)
    scores[1, 40:], scores[2] = -1.0, -INF
    problem = boxes, scores, classes.long()
    got = found_rows(*problem, 0.4, 90, chunk=chunk, rows=rows, columns=columns)
    assert torch.equal(got, wanted_rows(*problem, 0.4, 90))
    assert (got[2] == -1).all()


def test_values_at_the_launched_tiles():
    tiles = {"rows": nms_launch.ROWS, "columns": nms_launch.COLUMNS, "chunk": 128}
    problem = crowd(260, images=1, spread=120.0)
    assert torch.equal(found_rows(*problem, 0.5, 260, **tiles), wanted_rows(*problem, 0.5, 260))


def test_values_where_pytorch_sorts(monkeypatch):
    monkeypatch.setattr(nms_launch, "MOST_RUNS", 2)
    problem = crowd(90, images=2)
    problem[1][0, ::3] = -1.0
    assert torch.equal(found_rows(*problem, 0.3, 90), wanted_rows(*problem, 0.3, 90))


@pytest.mark.parametrize("choice", ["triton", "reference"])
@pytest.mark.parametrize("count", [0, 1, 50, 150])
def test_packed_rows_are_those_rows(count, choice, monkeypatch):
    monkeypatch.setattr(nms_launch, "FIRST_CHUNK", nms_launch.COLUMNS)
    monkeypatch.setattr(nms_launch, "RUN", 64)
    boxes, scores, classes = (x.to(DEVICE) for x in crowd(count, images=2))
    scores[0, 3:9] = torch.tensor([NAN, -NAN, -0.0, -1.0, INF, -INF], device=DEVICE)[: max(0, min(6, count - 3))]
    extra = torch.arange(2 * count, dtype=torch.int32, device=DEVICE).view(2, count)
    with dispatch.using(choice):
        packed = batched_nms_packed(boxes, scores, classes, [extra, -extra], 0.3, 40)
    assert (packed.shape, packed.dtype) == ((2, 40, 8), torch.int32)
    rows = wanted_rows(boxes.cpu(), scores.cpu(), classes.cpu(), 0.3, 40).to(DEVICE)
    assert (packed[rows < 0] == -1).all()
    for image, own in enumerate(rows):
        own = own[own >= 0]
        found = packed[image, : len(own)]
        assert torch.equal(found[:, :4], boxes[image, own].view(torch.int32))
        assert torch.equal(found[:, 4], scores[image, own].view(torch.int32))
        assert torch.equal(found[:, 5:], torch.stack([classes, extra, -extra], dim=2)[image, own])


@pytest.mark.parametrize("most", [1, 7, 31, 32, 33, 64, 100])
def test_values_end_with_the_most_wanted(most):
    problem = crowd(100, images=2, classes=40)
    every = wanted_rows(*problem, 0.6, 100)
    assert torch.equal(found_rows(*problem, 0.6, most), every[:, :most])


def test_values_of_identical_boxes_and_of_a_chain():
    same = torch.tensor([0.0, 0, 10, 10]).expand(1, 70, 4)
    none = torch.zeros(1, 70, dtype=torch.int64)
    assert found_rows(same, torch.ones(1, 70), none, 0.5, 3).tolist() == [[0, -1, -1]]
    assert found_rows(same, torch.ones(1, 70), torch.arange(70)[None], 0.5, 70).tolist() == [list(range(70))]
    # each overlaps its neighbours alone: as many rounds as a word has boxes
    start = torch.arange(70).float() * 4
    chain = torch.stack([start, torch.zeros(70), start + 10, torch.ones(70)], dim=1)[None]
    assert found_rows(chain, torch.ones(1, 70), none, 0.4, 35).tolist() == [list(range(0, 70, 2))]


def test_more_wanted_than_there_are_and_no_images():
    boxes, scores, classes = crowd(5)
    got = found_rows(boxes, scores, classes, 1.0, 9)
    assert got[0, 5:].tolist() == [-1] * 4
    assert sorted(got[0, :5].tolist()) == list(range(5))
    assert found_rows(boxes[:0], scores[:0], classes[:0], 0.5, 4).shape == (0, 4)


def test_the_plain_function_runs_them_too(monkeypatch):
    monkeypatch.setattr(nms_launch, "FIRST_CHUNK", nms_launch.COLUMNS)
    boxes, scores, classes = (x[0].to(DEVICE) for x in crowd(170))
    scores = scores - 0.5  # here a score below 0 is a score
    images = torch.arange(170, device=DEVICE) % 3 * 5
    calls = []
    launch = nms_launch.launch
    monkeypatch.setattr(nms_launch, "launch", lambda *args: calls.append(1) or launch(*args))
    for extras in ({}, {"max_per_image": 4}, {"images": images}, {"images": images.int(), "max_per_image": 4}):
        with dispatch.using("reference"):
            plain = nms(boxes, scores, classes, 0.4, **extras)
        assert not calls
        with dispatch.using("triton"):
            assert torch.equal(nms(boxes, scores, classes, 0.4, **extras), plain)
        assert calls.pop()
    with dispatch.using("triton"):
        assert nms(boxes[:0], scores[:0], classes[:0], 0.4, images=images[:0]).tolist() == []


@pytest.mark.parametrize("choice", ["triton", "reference"])
def test_values_at_a_threshold(choice):
    # 9 / 15 in float32 is the float32 0.6, which is above the float64 one; 8 / 16 is 0.5
    boxes = torch.tensor([[(0.0, 0, 3, 5), (0, 0, 3, 3)], [(0, 0, 4, 4), (0, 0, 4, 2)]], device=DEVICE)
    scores = torch.tensor([[0.9, 0.8], [0.9, 0.8]], device=DEVICE)
    same = torch.zeros(2, 2, dtype=torch.int64, device=DEVICE)
    with dispatch.using(choice):
        for threshold, kept in ((0.6, [2, 2]), (0.5, [1, 2]), (math.nextafter(0.5, 0), [1, 2]), (0.4999, [1, 1])):
            rows = batched_nms(boxes, scores, same, threshold, 2)
            assert (rows >= 0).sum(1).tolist() == kept, threshold
            assert [len(nms(*one, threshold)) for one in zip(boxes, scores, same, strict=True)] == kept


@pytest.mark.parametrize("choice", ["triton", "reference"])
def test_values_of_scores_that_are_no_numbers(choice):
    """They come first whatever their sign, on every device: a network that diverged must not look sound."""
    boxes = torch.arange(5.0, device=DEVICE)[:, None] * 100 + torch.tensor([0.0, 0, 9, 9], device=DEVICE)
    scores, same = torch.tensor([0.5, -NAN, 0.9, NAN, -0.0], device=DEVICE), torch.zeros_like(boxes[:, 0]).long()
    with dispatch.using(choice):
        assert nms(boxes, scores, same, 0.5).tolist() == [1, 3, 2, 0, 4]
        assert batched_nms(boxes[None], scores[None], same[None], 0.5, 0).tolist() == [[1, 3, 2, 0, 4]]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="10,000 boxes take the interpreter minutes")
def test_values_of_full_size():
    boxes, scores, classes = crowd(10_000, images=64, classes=80, spread=1000.0)
    with dispatch.using("reference"):
        wanted = batched_nms(boxes, scores, classes, 0.6, 0)
    assert torch.equal(batched_nms(boxes.cuda(), scores.cuda(), classes.cuda(), 0.6, 0).cpu(), wanted)


def test_strided_input():
    boxes, scores, classes = crowd(40, images=2)
    wide = torch.stack([boxes, boxes + 9], dim=3)[..., 0]
    got = found_rows(wide, scores.T.contiguous().T, classes.T.contiguous().T, 0.3, 40)
    assert torch.equal(got, found_rows(boxes, scores, classes, 0.3, 40))


@pytest.mark.parametrize("choice", ["triton", "reference"])
def test_compiles_whole_and_opcheck(choice, monkeypatch):
    monkeypatch.setattr(nms_launch, "FIRST_CHUNK", nms_launch.COLUMNS)
    compiled = torch.compile(batched_nms, fullgraph=True, backend="aot_eager")
    with dispatch.using(choice):
        for count in (20, 33):
            problem = tuple(x.to(DEVICE) for x in crowd(count, images=2))
            assert torch.equal(compiled(*problem, count / 70, 10), batched_nms(*problem, count / 70, 10))
        torch.library.opcheck(_batched_nms, (*problem, 0.4, 10))
        torch.library.opcheck(_packed, (*problem, [problem[2]], 0.4, 10))


@pytest.mark.parametrize("choice", ["triton", "reference"])
def test_the_plain_function_compiles_whole_and_opcheck(choice, monkeypatch):
    monkeypatch.setattr(nms_launch, "FIRST_CHUNK", nms_launch.COLUMNS)
    compiled = torch.compile(nms, fullgraph=True, backend="aot_eager")
    with dispatch.using(choice):
        for count in (20, 33):
            problem = tuple(x[0].to(DEVICE) for x in crowd(count))
            images = torch.arange(count, device=DEVICE) % 2
            for extras in ({}, {"images": images, "max_per_image": 3}):
                assert torch.equal(compiled(*problem, 0.4, **extras), nms(*problem, 0.4, **extras))
        torch.library.opcheck(_nms, (*problem, images, 0.4, 0))


def test_exports():
    class Suppression(torch.nn.Module):
        def forward(self, boxes, scores, classes):
            rows = batched_nms(boxes, scores, classes, 0.4, 10)
            packed = batched_nms_packed(boxes, scores, classes, [classes], 0.4, 10)
            return rows, packed, nms(boxes[0], scores[0], classes[0], 0.4)

    count = torch.export.Dim("count", min=2, max=1000)
    shapes = [{1: count}] * 3
    program = torch.export.export(Suppression(), tuple(crowd(20, images=2)), dynamic_shapes=shapes).module()
    problem = crowd(31, images=2)
    for ours, wanted in zip(program(*problem), Suppression()(*problem), strict=True):
        assert torch.equal(ours, wanted)


def test_fake_tensors_of_a_gpu_that_is_not_there():
    with FakeTensorMode():
        boxes, scores = torch.empty(2, 7, 4, device="cuda"), torch.empty(2, 7, device="cuda")
        found = batched_nms(boxes, scores, torch.empty(2, 7, dtype=torch.int32, device="cuda"), 0.6, 5)
    assert (found.shape, found.dtype, found.device.type) == ((2, 5), torch.int64, "cuda")


def test_variants_describe_the_kernels():
    for variant in nms_launch.variants():
        assert list(variant.signature) == list(inspect.signature(variant.kernel.fn).parameters)
        constants = {name for name, kind in variant.signature.items() if kind == "constexpr"}
        assert constants == set(variant.constants)
