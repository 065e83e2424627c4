"""`nms` and `batched_nms` on the CPU: NumPy, class by class."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_kernels.nms import batched_nms, nms, reference
from fcos_kernels.nms import plain as nms_plain

corner = st.integers(0, 12).map(float)
rows = st.lists(
    st.tuples(corner, corner, corner, corner, st.sampled_from([0.1, 0.5, 0.9]), st.integers(0, 2), st.integers(0, 2)),
    max_size=40,
)


def one_class(count, spread, seed=0):
    """Boxes float32 [K, 4] anywhere, or around few centres; scores in descending order."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, 2, generator=generator) * spread
    boxes = torch.cat([corner, corner + torch.rand(count, 2, generator=generator) * 30 + 1], dim=1)
    return boxes, torch.linspace(1, 0, count), torch.zeros(count, dtype=torch.int64)


def dense(boxes, classes, threshold):
    """Rows kept of boxes by descending score: the whole matrix in float32, then one row after another."""
    low, high = torch.maximum(boxes[:, None, :2], boxes[:, :2]), torch.minimum(boxes[:, None, 2:], boxes[:, 2:])
    sides = (high - low).clamp(min=0)
    shared = sides[..., 0] * sides[..., 1]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    hit = (shared / (area[:, None] + area - shared) > threshold) & (classes[:, None] == classes)
    alive = torch.ones(len(boxes), dtype=torch.bool)
    for row in range(len(boxes)):
        if alive[row]:
            alive[row + 1 :] &= ~hit[row, row + 1 :]
    return alive.nonzero()[:, 0].tolist()


@given(
    rows,
    st.sampled_from([-1.0, 0.0, 0.3, 0.5, 0.6, 1.0, 2.0]),
    st.sampled_from([0, 1, 3]),
    st.sampled_from([2, 4, 512]),
    st.sampled_from([0, 256]),
)
@settings(max_examples=150, deadline=None)
def test_equals_one_after_another(found, threshold, most, block, few):
    values = torch.tensor(found, dtype=torch.float32).reshape(-1, 7)
    boxes = torch.cat([torch.minimum(values[:, :2], values[:, 2:4]), torch.maximum(values[:, :2], values[:, 2:4])], 1)
    scores, classes, images = values[:, 4].contiguous(), values[:, 5].long(), values[:, 6].int()
    wanted = reference.nms(boxes, scores, classes, threshold, images)
    if most:
        taken = {}
        wanted = [
            i for i in wanted if taken.setdefault(int(images[i]), []).append(i) or len(taken[int(images[i])]) <= most
        ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nms_plain, "BLOCK", block)
        patch.setattr(nms_plain, "FEW", few)
        patch.setattr(nms_plain, "GROUP", 3)
        patch.setattr(nms_plain, "SLICE", 5)
        kept = nms(boxes, scores, classes, threshold, images=images, max_per_image=most)
    assert kept.dtype == torch.int64
    assert kept.tolist() == wanted


@pytest.mark.parametrize("spread", [20.0, 60.0, 1000.0])
@pytest.mark.parametrize("threshold", [-0.5, 0.0, 0.3, 0.6])
def test_a_class_larger_than_a_block(spread, threshold, monkeypatch):
    monkeypatch.setattr(nms_plain, "BLOCK", 64)
    monkeypatch.setattr(nms_plain, "SLICE", 100)
    boxes, scores, classes = one_class(500, spread)
    boxes[100] = torch.tensor([0.0, 0, spread, 30])
    boxes[200:210] = boxes[50]
    # turned inside out, without a side, infinite, not a number
    boxes[300] = boxes[301][[2, 3, 0, 1]]
    boxes[310, 2] = boxes[310, 0]
    boxes[320, 2], boxes[321, 0], boxes[322, 1] = float("inf"), -float("inf"), float("nan")
    kept = nms(boxes, scores, classes, threshold)
    assert kept.tolist() == dense(boxes, classes, threshold)
    assert nms(boxes, scores, classes, threshold, max_per_image=30).tolist() == kept[:30].tolist()


@pytest.mark.parametrize("count", [511, 512, 513, 2000])
def test_counts_around_a_block(count):
    boxes, scores, classes = one_class(count, 300.0, seed=count)
    assert nms(boxes, scores, classes, 0.4).tolist() == dense(boxes, classes, 0.4)


def test_a_chain_of_suppressions_is_followed():
    # each box overlaps only its neighbours: every second one stays
    start = torch.arange(600).float() * 4
    boxes = torch.stack([start, torch.zeros(600), start + 10, torch.ones(600)], dim=1)
    kept = nms(boxes, torch.linspace(1, 0, 600), torch.zeros(600, dtype=torch.int64), 0.4)
    assert kept.tolist() == list(range(0, 600, 2))


def test_classes_are_compared_where_offsets_would_round():
    # far apart, large class numbers: boxes shifted by class * 1e6 in float32 lose their fractions
    box = torch.tensor([(0.1, 0.1, 0.4, 0.4), (0.3, 0.3, 0.6, 0.6)])
    boxes = box.repeat(2, 1)
    classes = torch.tensor([90, 90, 7, 7])
    kept = nms(boxes, torch.tensor([0.9, 0.8, 0.7, 0.6]), classes, 0.2)
    assert kept.tolist() == [0, 1, 2, 3]


def test_padded_rows_are_empty_and_results_too():
    boxes = torch.tensor([(0.0, 0, 10, 10), (0, 0, 10, 9), (50, 0, 60, 10), (0, 0, 10, 10)]).repeat(2, 1, 1)
    scores = torch.tensor([[0.5, 0.9, -0.0, -0.1], [-1, -1, -0.5, -float("inf")]])
    classes = torch.zeros(2, 4, dtype=torch.int32)
    assert batched_nms(boxes, scores, classes, 0.5, 3).tolist() == [[1, 2, -1], [-1, -1, -1]]
    assert batched_nms(boxes, scores, classes, 0.5, 0).shape == (2, 4)
    assert batched_nms(boxes, scores, classes, 1.0, 2).tolist() == [[1, 0], [-1, -1]]


def test_a_rounded_iou_at_the_threshold_stays():
    # 9 / 15 in float32 is the float32 0.6, which is above the float64 one
    boxes, scores, same = torch.tensor([(0.0, 0, 3, 5), (0, 0, 3, 3)]), torch.tensor([0.9, 0.8]), torch.zeros(2).long()
    assert reference.nms(boxes, scores, same, 0.6, same) == nms(boxes, scores, same, 0.6).tolist() == [0, 1]
    assert reference.nms(boxes, scores, same, 0.5999, same) == nms(boxes, scores, same, 0.5999).tolist() == [0]


def test_thousands_of_images_of_unlike_sizes():
    images = torch.cat([torch.zeros(3000), torch.arange(1, 3001)]).long()
    boxes, scores, classes = one_class(6000, 1000.0)
    kept = nms(boxes, scores, classes, 0.5, images=images)
    first = images[kept] == 0
    assert kept[first].tolist() == nms(boxes[:3000], scores[:3000], classes[:3000], 0.5).tolist()
    assert kept[~first].tolist() == list(range(3000, 6000))


def test_nothing():
    none = torch.zeros(0, dtype=torch.int64)
    assert nms(torch.zeros(0, 4), torch.zeros(0), none, 0.6).tolist() == []
    assert nms(torch.zeros(0, 4), torch.zeros(0), none, 0.6, images=none, max_per_image=100).dtype == torch.int64


def test_bad_input_is_named():
    boxes, scores, classes = torch.zeros(2, 4), torch.zeros(2), torch.zeros(2, dtype=torch.int64)
    with pytest.raises(TypeError, match="scores must be float32"):
        nms(boxes, scores.double(), classes, 0.5)
    with pytest.raises(ValueError, match=r"classes must have shape \[2\]"):
        nms(boxes, scores, classes[:1], 0.5)
    with pytest.raises(ValueError, match="max_per_image"):
        nms(boxes, scores, classes, 0.5, max_per_image=-1)
    with pytest.raises(TypeError, match="max_per_image must be whole"):
        nms(boxes, scores, classes, 0.5, max_per_image=2.0)
    with pytest.raises(ValueError, match="iou_threshold must be finite, not nan"):
        nms(boxes, scores, classes, float("nan"))
    with pytest.raises(TypeError, match="iou_threshold must be a number, not str"):
        batched_nms(boxes[None], scores[None], classes[None], "0.5", 3)
    with pytest.raises(TypeError, match="images must be int64 or int32"):
        nms(boxes, scores, classes, 0.5, images=scores)
    with pytest.raises(ValueError, match=r"boxes must have shape \[any, any, 4\]"):
        batched_nms(boxes, scores[None], classes[None], 0.5, 3)
    with pytest.raises(ValueError, match="max_per_image"):
        batched_nms(boxes[None], scores[None], classes[None], 0.5, -3)
