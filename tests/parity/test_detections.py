"""Detections of other programs from the same outputs: where suppression differs, with theirs in the place of ours."""

from typing import NamedTuple

import pytest
import torch

from fcos_cli.model.fcos import FCOS
from fcos_cli.model.postprocess import Detections, postprocess
from fcos_kernels.nms import nms

HEIGHT, WIDTH = 150, 200
SIZE = torch.tensor([[HEIGHT, WIDTH]])
AUTHORS = ("fcos-orig-base", "fcos-orig-imprv")
CUT_LATER = ("adet-fcos", "adet-fcos/thresh_with_ctr", "d2-fcos")


class Found(NamedTuple):
    """K detections by descending score; float64."""

    boxes: torch.Tensor
    scores: torch.Tensor
    labels: torch.Tensor


@pytest.fixture
def candidates(case):
    """Function: case -> it, the model, its float64 outputs for the first image, and our candidates before suppression.

    The model has the record's outputs before the activation, its scales are 1.
    """

    def run(name):
        opened = case(name)
        model = FCOS(opened.recipe.model, 5).double()
        outputs = opened.recorded_outputs("test/raw64")
        if name == "fcos-orig-imprv":
            strides = model.pyramid.strides
            outputs["box"] = [distance / stride for distance, stride in zip(outputs["box"], strides, strict=True)]
        if model.head.config.box_activation == "exp":
            outputs["box"] = [distance.log() for distance in outputs["box"]]
        found = postprocess(outputs, SIZE, model, opened.recipe.test, suppress=False)
        return opened, model, outputs, found

    return run


def recorded(opened) -> Found:
    prefix = f"{opened.variant}test/det64"
    boxes, scores = (opened.tensors[f"{prefix}/{name}"].double() for name in ("boxes", "scores"))
    order = scores.argsort(descending=True, stable=True)
    return Found(boxes[order], scores[order], opened.tensors[f"{prefix}/labels"][order])


def suppressed(opened, found: Detections, boxes: torch.Tensor) -> torch.Tensor:
    """Rows of the candidates that our suppression keeps where it sees `boxes`."""
    test = opened.recipe.test
    return nms(boxes, found.scores, found.labels, test.nms_iou, max_per_image=test.max_detections)


def cut(boxes: torch.Tensor, width: float, height: float) -> torch.Tensor:
    return boxes.clamp(min=0).minimum(torch.tensor([width, height, width, height]))


def whole_boxes(model: FCOS, outputs, found: Detections) -> torch.Tensor:
    """The candidates' boxes as they were before they were cut to the image."""
    boxes = torch.zeros(len(found.scores), 4)
    for position, level in enumerate(model.pyramid.levels):
        rows = (found.level == level.index).nonzero()[:, 0]
        x, y = found.location[rows].T
        column, row = x // level.stride, y // level.stride
        distance = outputs["box"][position][0, :, row, column].T.relu().float() * level.stride
        boxes[rows] = torch.stack([x, y, x, y], dim=1) + distance * torch.tensor([-1, -1, 1, 1])
    return boxes


def check(kept: torch.Tensor, found: Detections, boxes: torch.Tensor, theirs: Found) -> None:
    assert torch.equal(found.labels[kept], theirs.labels)
    torch.testing.assert_close(found.scores[kept].double(), theirs.scores, rtol=0, atol=1e-6)
    torch.testing.assert_close(boxes[kept].double(), theirs.boxes, rtol=0, atol=1e-3)


@pytest.mark.parametrize("name", AUTHORS)
def test_authors_detections_with_their_inclusive_pixels(candidates, name):
    """Widths are a pixel more, and x ends at width - 1; nothing else differs."""
    opened, _, _, found = candidates(name)
    boxes = cut(found.boxes, WIDTH - 1, HEIGHT - 1)
    kept = suppressed(opened, found, boxes + torch.tensor([0.0, 0.0, 1.0, 1.0]))
    check(kept, found, boxes, recorded(opened))


def test_authors_detections(candidates):
    """Here the inclusive pixels change no decision of the suppression, only where the image ends."""
    opened, model, outputs, _ = candidates("fcos-orig-base")
    ours = postprocess(outputs, SIZE, model, opened.recipe.test)
    check(torch.arange(len(ours.scores)), ours, cut(ours.boxes, WIDTH - 1, HEIGHT - 1), recorded(opened))


@pytest.mark.parametrize("name", CUT_LATER)
def test_detections_suppressed_before_they_are_cut(candidates, name):
    """AdelaiDet and detectron2 suppress whole boxes, and drop those that have no area in the image; no more differs."""
    opened, model, outputs, found = candidates(name)
    boxes = whole_boxes(model, outputs, found)
    torch.testing.assert_close(cut(boxes, WIDTH, HEIGHT), found.boxes, rtol=0, atol=1e-4)
    kept = suppressed(opened, found, boxes)
    has_area = (found.boxes[kept, 2:] > found.boxes[kept, :2]).all(dim=1)
    check(kept[has_area], found, found.boxes, recorded(opened))
