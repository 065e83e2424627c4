import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_kernels.common.outputs import Outputs
from fcos_kernels.decode import Rule, decode, reference

GRIDS, STRIDES, STARTS = [(6, 7), (3, 4)], [8, 16], [4, 8]
UNITS = [8.0, 1.0]
SIZES = torch.tensor([[40, 50], [48, 56], [20, 30]])
CLASSES = 4
DEFAULTS = {"activation": "exp", "quality": "centerness", "threshold": 0.05}


def head_outputs(seed=0, dtype=torch.float32, memory_format=torch.contiguous_format, images=3):
    generator = torch.Generator().manual_seed(seed)

    def level(channels, shift):
        return [
            (torch.randn(images, channels, *grid, generator=generator) * 2 + shift).to(
                dtype, memory_format=memory_format
            )
            for grid in GRIDS
        ]

    return level(CLASSES, -3), level(4, 1), level(1, 0), torch.tensor([1.0, 1.2])


def run(outputs, sizes=SIZES, **choices):
    return decode(*outputs, sizes, rule_of(**choices))


def rule_of(**choices):
    geometry = {"strides": STRIDES, "starts": STARTS, "units": UNITS}
    return Rule(**{**geometry, **DEFAULTS, **choices})


def check_equal(outputs, **choices):
    result = run(outputs, **choices)
    wanted = reference.decode(Outputs(*outputs), SIZES, rule_of(**choices))
    assert result.image.tolist() == [row.image for row in wanted]
    assert result.level.tolist() == [row.level for row in wanted]
    assert result.location.tolist() == [row.location for row in wanted]
    assert result.labels.tolist() == [row.label for row in wanted]
    scores = torch.tensor([row.score for row in wanted])
    torch.testing.assert_close(result.scores, scores, rtol=1e-5, atol=1e-6)
    boxes = torch.tensor([row.box for row in wanted]).reshape(-1, 4)
    torch.testing.assert_close(result.boxes, boxes, rtol=1e-5, atol=1e-4)
    return result


@given(
    st.integers(0, 1000),
    st.sampled_from([torch.contiguous_format, torch.channels_last]),
    st.sampled_from(["exp", "relu"]),
    st.sampled_from(["centerness", "iou", "none", "from_box"]),
    st.sampled_from([0.0, 0.05, 0.4]),
    st.sampled_from(["class", "score"]),
    st.sampled_from(["class", "score"]),
    st.sampled_from(["sqrt", "product"]),
    st.sampled_from([1, 7, 1000]),
)
@settings(max_examples=40, deadline=None)
def test_equals_one_by_one(
    seed, memory_format, activation, quality, threshold, threshold_on, rank_by, score, candidates
):
    outputs = head_outputs(seed, memory_format=memory_format)
    if activation == "relu" and quality == "from_box":  # centre-ness 0 ties; their order is by location, not by float
        outputs[1][0].abs_().add_(0.1)
        outputs[1][1].abs_().add_(0.1)
    check_equal(
        outputs,
        activation=activation,
        quality=quality,
        threshold=threshold,
        threshold_on=threshold_on,
        rank_by=rank_by,
        score=score,
        candidates=candidates,
    )


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_precision_logits(dtype):
    outputs = head_outputs(7, dtype=dtype)
    result = run(outputs)
    wanted = run(tuple([x.float() for x in part] if isinstance(part, list) else part for part in outputs))
    assert len(result.image) > 20
    assert all(torch.equal(a, b) for a, b in zip(result, wanted, strict=True))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("threshold", [1e-6, 0.05, 0.3, 0.5, 0.9, 0.999, 0.9999999])
def test_the_threshold_is_that_of_the_float32_probability(dtype, threshold):
    around = math.log(threshold / (1 - threshold))
    line = torch.linspace(around - 0.5, around + 0.5, 42 * CLASSES).to(dtype)
    classes = [line.view(1, CLASSES, 6, 7), torch.full((1, CLASSES, 3, 4), -60.0, dtype=dtype)]
    boxes = [torch.zeros(1, 4, *grid, dtype=dtype) for grid in GRIDS]
    result = run((classes, boxes, None, torch.ones(2)), SIZES[:1], quality="none", threshold=threshold)
    assert len(result.image) == (line.double().sigmoid().float() > threshold).sum()
    assert (result.scores > threshold).all()


def test_ties_are_ordered_by_location_then_class():
    classes, boxes, qualities, scales = head_outputs()
    outputs = [torch.zeros_like(x) for x in classes], boxes, [torch.zeros_like(x) for x in qualities], scales
    result = run(outputs, candidates=6)
    assert result.location[:6].tolist() == [0, 0, 0, 0, 1, 1]
    assert result.labels[:6].tolist() == [0, 1, 2, 3, 0, 1]
    assert result.image.tolist() == [0] * 12 + [1] * 12 + [2] * 12
    assert result.level[:12].tolist() == [0] * 6 + [1] * 6


@pytest.mark.parametrize("quality", ["none", "from_box"])
def test_equal_logits_tie_wherever_they_lie(quality):
    # PyTorch's float32 sigmoid and exp of one number differ between the vectors of a tensor and what is left over
    line = {"strides": [1], "starts": [0], "units": [1.0], "sizes": SIZES[:1], "quality": quality}
    for value in torch.linspace(-2.5, 4, 300).bfloat16():
        classes, boxes = value.expand(1, 1, 1, 61), value.expand(1, 4, 1, 61)
        result = run(([classes], [boxes], None, torch.ones(1)), **line)
        assert result.location.tolist() == list(range(61)), value


@pytest.mark.parametrize("quality", ["centerness", "none", "from_box"])
def test_nothing_above_the_threshold(quality):
    classes, *rest = head_outputs()
    result = run(([x.fill_(-20) for x in classes], *rest), quality=quality)
    assert [len(field) for field in result] == [0] * 6
    assert result.boxes.shape == (0, 4)


@pytest.mark.parametrize("activation", ["exp", "relu"])
@pytest.mark.parametrize("extreme", [1e4, -1e4])
def test_extreme_outputs_give_boxes_within_the_image(activation, extreme):
    classes, boxes, qualities, scales = head_outputs()
    result = run(
        (classes, [x.fill_(extreme) for x in boxes], qualities, scales), activation=activation, quality="from_box"
    )
    assert len(result.image)
    assert result.boxes.isfinite().all()
    assert result.scores.isfinite().all()
    assert (result.boxes >= 0).all()
    assert (result.boxes[:, 2:] <= SIZES[result.image].flip(1)).all()


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"quality": "center"}, ValueError, "quality must be one of"),
        ({"activation": "gelu"}, ValueError, "activation must be one of"),
        ({"threshold_on": "box"}, ValueError, "threshold_on must be one of"),
        ({"rank_by": "box"}, ValueError, "rank_by must be one of"),
        ({"score": "mean"}, ValueError, "score must be one of"),
        ({"candidates": 0}, ValueError, "candidates must be above 0"),
        ({"candidates": 10.0}, TypeError, "candidates must be whole"),
        ({"threshold": math.nan}, ValueError, "threshold must be finite"),
        ({"starts": [4.5, 8]}, TypeError, "starts must be whole"),
        ({"strides": [8, 0]}, ValueError, "strides must be above 0"),
    ],
)
def test_bad_choices_are_named(change, error, words):
    with pytest.raises(error, match=words):
        run(head_outputs(), **change)


def test_bad_tensors_are_named():
    classes, boxes, qualities, scales = head_outputs()
    with pytest.raises(ValueError, match="quality_logits must be given"):
        run((classes, boxes, None, scales))
    with pytest.raises(ValueError, match="sizes must have shape"):
        run((classes, boxes, qualities, scales), sizes=SIZES[:1])
    with pytest.raises(ValueError, match="box_outputs must have 2 entries"):
        run((classes, boxes[:1], qualities, scales))
