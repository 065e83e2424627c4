import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_kernels import nms as nms_module
from fcos_kernels import reference
from fcos_kernels.nms import nms

corner = st.integers(0, 12).map(float)
rows = st.lists(
    st.tuples(corner, corner, corner, corner, st.sampled_from([0.1, 0.5, 0.9]), st.integers(0, 2), st.integers(0, 2)),
    max_size=40,
)


@given(rows, st.sampled_from([0.0, 0.3, 0.5, 0.6, 1.0]), st.sampled_from([0, 1, 3]), st.sampled_from([4, 256]))
@settings(max_examples=120)
def test_equals_one_after_another(found, threshold, most, block):
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
        patch.setattr(nms_module, "BLOCK", block)
        kept = nms(boxes, scores, classes, threshold, images=images, max_per_image=most)
    assert kept.dtype == torch.int64
    assert kept.tolist() == wanted


def test_many_boxes_in_blocks(monkeypatch):
    monkeypatch.setattr(nms_module, "BLOCK", 64)
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand(300, 2, generator=generator) * 60
    boxes = torch.cat([corner, corner + torch.rand(300, 2, generator=generator) * 30 + 1], dim=1)
    scores = torch.rand(300, generator=generator)
    classes = torch.randint(0, 3, (300,), generator=generator)
    kept = nms(boxes, scores, classes, 0.5)
    assert kept.tolist() == reference.nms(boxes, scores, classes, 0.5, torch.zeros(300))
    assert nms(boxes, scores, classes, 0.5, max_per_image=30).tolist() == kept[:30].tolist()


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
    with pytest.raises(TypeError, match="images must be int64 or int32"):
        nms(boxes, scores, classes, 0.5, images=scores)
