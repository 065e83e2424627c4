"""Post-processing against a plain loop over images, levels, locations and classes, in float64."""

import math
import os

import numpy as np
import pytest
import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")

from fcos_cli.model.fcos import FCOS
from fcos_cli.model.postprocess import postprocess, postprocess_packed
from fcos_cli.recipe.schema import ModelConfig
from fcos_cli.recipe.schema import TestConfig as Limits
from fcos_kernels import dispatch

CLASSES, STRIDES = 2, (8, 16)


def make_model(quality="centerness", activation="exp", normalize=False, origin="half_stride"):
    config = ModelConfig.model_validate(
        {
            "backbone": {"name": "resnet18", "width": 8, "norm": "bn", "frozen_stages": 0, "weights": ""},
            "pyramid": {"channels": 32, "levels": [3, 4], "locations": origin},
            "head": {
                "convs": 0,
                "norm": "none",
                "quality": quality,
                "box_activation": activation,
                "normalize_targets": normalize,
            },
        }
    )
    model = FCOS(config, CLASSES)
    with torch.no_grad():
        model.head.scales.copy_(torch.tensor([1.25, 0.5]))
    return model


def make_outputs(model, images=2, height=64, width=96, seed=0):
    generator = torch.Generator().manual_seed(seed)
    grids = model.pyramid.grids(height, width)
    draw = [(torch.randn(images, c, h, w, generator=generator)) for h, w in grids for c in (CLASSES, 4, 1)]
    lift = 0.0 if model.config.head.normalize_targets else 2.5
    return {
        "classification": [draw[0] * 2 - 1, draw[3] * 2 - 1],
        "box": [draw[1] + lift, draw[4] + lift],
        "quality": [draw[2], draw[5]],
    }


def without_branch(outputs):
    return {name: levels for name, levels in outputs.items() if name != "quality"}


def with_silent_classes(outputs):
    return {**outputs, "classification": [logits - 100 for logits in outputs["classification"]]}


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def overlap(a, b, one):
    w = min(a[2], b[2]) - max(a[0], b[0]) + one
    h = min(a[3], b[3]) - max(a[1], b[1]) + one
    if w <= 0 or h <= 0:
        return 0.0
    both = w * h
    return both / ((a[2] - a[0] + one) * (a[3] - a[1] + one) + (b[2] - b[0] + one) * (b[3] - b[1] + one) - both)


def cut(box, width, height):
    return [min(max(side, 0), limit) for side, limit in zip(box, (width, height, width, height), strict=True)]


def has_area(box, one):
    return box[2] - box[0] + one > 0 and box[3] - box[1] + one > 0


def expected(model, outputs, sizes, test):
    head, scales = model.config.head, model.head.scales.tolist()
    one = 1 if test.box_pixels == "inclusive" else 0
    result = []
    for image, (height, width) in enumerate(sizes):
        found = []
        for level, stride in enumerate(STRIDES):
            logits = outputs["classification"][level][image].tolist()
            sides = outputs["box"][level][image].tolist()
            quality = outputs["quality"][level][image][0].tolist()
            rows, columns = len(logits[0]), len(logits[0][0])
            here = []
            for i in range(rows):
                for j in range(columns):
                    start = stride // 2 if model.pyramid.origin == "half_stride" else 0
                    x, y = start + j * stride, start + i * stride
                    raw = [scales[level] * sides[k][i][j] for k in range(4)]
                    unit = stride if head.normalize_targets else 1
                    far = [unit * (math.exp(r) if head.box_activation == "exp" else max(r, 0.0)) for r in raw]
                    box = [x - far[0], y - far[1], x + far[2], y + far[3]]
                    if test.clip == "before":
                        box = cut(box, width - one, height - one)
                    for label in range(CLASSES):
                        p = sigmoid(logits[label][i][j])
                        score = math.sqrt(p * sigmoid(quality[i][j])) if head.quality == "centerness" else p
                        if p > test.score_threshold:
                            here.append((score, label, box, 3 + level, [x, y]))
            best = sorted(here, key=lambda d: -d[0])[: test.candidates]
            found += [d for d in best if test.clip == "after" or has_area(d[2], one)]
        kept = []
        for new in sorted(found, key=lambda d: -d[0]):
            if all(new[1] != other[1] or overlap(new[2], other[2], one) <= test.nms_iou for other in kept):
                kept.append(new)
        for score, label, box, *origin in kept[: test.max_detections]:
            inside = cut(box, width - one, height - one)
            if has_area(inside, one):
                result.append((image, score, label, inside, *origin))
    return result


@pytest.mark.parametrize(
    ("variant", "limits"),
    [
        ({}, {}),
        ({"activation": "relu", "normalize": True}, {"nms_iou": 0.4}),
        ({"quality": "none"}, {"max_detections": 7}),
        ({}, {"candidates": 12, "score_threshold": 0.3}),
        ({"origin": "corner"}, {}),
        ({"activation": "relu", "normalize": True}, {"clip": "after", "max_detections": 30}),
        ({"origin": "corner"}, {"clip": "after", "nms_iou": 0.2}),
        ({}, {"box_pixels": "inclusive", "nms_iou": 0.3}),
        ({}, {"box_pixels": "inclusive", "clip": "after"}),
    ],
    ids=["base", "improved", "no-quality", "few", "corner", "late", "late-corner", "inclusive", "late-inclusive"],
)
def test_against_the_loop(variant, limits):
    model = make_model(**variant)
    outputs = make_outputs(model)
    test = Limits(**limits)
    sizes = [(64, 96), (50, 33)]
    wanted = expected(model, outputs, sizes, test)
    branch = outputs if model.config.head.quality == "centerness" else without_branch(outputs)
    got = postprocess(branch, torch.tensor(sizes), model, test)
    assert len(wanted) > 10
    assert got.image.tolist() == [w[0] for w in wanted]
    np.testing.assert_allclose(got.scores.numpy(), [w[1] for w in wanted], rtol=1e-5)
    assert got.labels.tolist() == [w[2] for w in wanted]
    np.testing.assert_allclose(got.boxes.numpy(), [w[3] for w in wanted], atol=1e-3)
    assert got.level.tolist() == [w[4] for w in wanted]
    assert got.location.tolist() == [w[5] for w in wanted]


def test_from_box_takes_no_branch():
    model = make_model("from_box")
    outputs = without_branch(make_outputs(model, images=1))
    got = postprocess(outputs, torch.tensor([[64, 96]]), model, Limits(candidates=3, nms_iou=1.0))
    level, (x, y) = int(got.level[0]) - 3, got.location[0].tolist()
    i, j = y // STRIDES[level], x // STRIDES[level]
    left, top, right, bottom = torch.exp(model.head.scales[level].detach() * outputs["box"][level][0, :, i, j]).tolist()
    centerness = math.sqrt(min(left, right) / max(left, right) * min(top, bottom) / max(top, bottom))
    p = sigmoid(float(outputs["classification"][level][0, int(got.labels[0]), i, j]))
    assert float(got.scores[0]) == pytest.approx(math.sqrt(p * centerness), rel=1e-5)


def test_nothing_found():
    model = make_model()
    outputs = make_outputs(model)
    silent = with_silent_classes(outputs)
    got = postprocess(silent, torch.tensor([[64, 96], [64, 96]]), model, Limits())
    assert [len(column) for column in got] == [0] * 6
    assert (got.boxes.shape, got.location.shape) == ((0, 4), (0, 2))


@pytest.mark.parametrize("suppress", [True, False])
@pytest.mark.parametrize(
    ("variant", "limits"),
    [
        ({}, {}),
        ({"quality": "none"}, {"max_detections": 7}),
        ({}, {"candidates": 12, "score_threshold": 0.3}),
        ({"activation": "relu", "normalize": True}, {"clip": "after"}),
        ({"origin": "corner"}, {"clip": "after", "box_pixels": "inclusive"}),
        ({}, {"box_pixels": "inclusive"}),
    ],
)
def test_both_routes_find_the_same(variant, limits, suppress):
    pytest.importorskip("triton")
    model, sizes, test = make_model(**variant), torch.tensor([[64, 96], [50, 33]]), Limits(**limits)
    outputs = make_outputs(model)
    outputs = outputs if model.config.head.quality == "centerness" else without_branch(outputs)
    plain = postprocess(outputs, sizes, model, test, suppress=suppress)
    with dispatch.using("triton"):
        packed = postprocess_packed(outputs, sizes, model, test, suppress=suppress)
        found = postprocess(outputs, sizes, model, test, suppress=suppress)
    assert len(plain.image) > 10
    assert (packed.dtype, packed.shape[2]) == (torch.int32, 8)
    if suppress:
        assert packed.shape[1] == test.max_detections
    assert [(x.dtype, x.shape) for x in found] == [(x.dtype, x.shape) for x in plain]
    for name in ("image", "labels", "level", "location"):
        assert torch.equal(getattr(found, name), getattr(plain, name)), name
    torch.testing.assert_close(found.scores, plain.scores, rtol=1e-6, atol=0)
    torch.testing.assert_close(found.boxes, plain.boxes, rtol=1e-6, atol=1e-4)


def test_nothing_found_on_the_padded_route():
    pytest.importorskip("triton")
    model = make_model()
    outputs = make_outputs(model)
    silent = with_silent_classes(outputs)
    with dispatch.using("triton"):
        got = postprocess(silent, torch.tensor([[64, 96], [64, 96]]), model, Limits())
    assert [len(column) for column in got] == [0] * 6
    assert (got.boxes.shape, got.location.shape) == ((0, 4), (0, 2))


def test_both_routes_hand_on_what_is_no_number():
    """So that it is counted, whatever the device."""
    pytest.importorskip("triton")
    model, sizes, test = make_model(), torch.tensor([[64, 96]]), Limits()
    outputs = make_outputs(model, images=1)
    outputs["quality"][0][0, 0, 2] = math.nan
    outputs["box"][0][0, :, 3] = math.nan
    plain = postprocess(outputs, sizes, model, test)
    with dispatch.using("triton"):
        found = postprocess(outputs, sizes, model, test)
    assert plain.scores.isnan().any()
    assert plain.boxes.isnan().any()
    for ours, theirs in zip(found, plain, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-6, atol=1e-4, equal_nan=True)


@pytest.mark.parametrize("clip", ["before", "after"])
@pytest.mark.parametrize("route", ["plain", "triton"])
def test_a_box_without_area_in_its_image_is_never_reported(clip, route):
    """Locations of the padding, whose boxes do not reach the image."""
    if route == "triton":
        pytest.importorskip("triton")
    model = make_model(activation="relu")
    outputs = make_outputs(model, images=1)
    outputs["box"] = [levels.clamp(max=2) for levels in outputs["box"]]
    test = Limits(clip=clip, nms_iou=1.0, max_detections=1000)
    with dispatch.using("triton" if route == "triton" else "reference"):
        found = postprocess(outputs, torch.tensor([[20, 30]]), model, test)
    assert 0 < len(found.scores) < 60
    assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
