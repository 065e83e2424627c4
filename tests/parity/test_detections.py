"""Detections of other programs from the same outputs, by the keys of `[test]` that make our post-processing theirs."""

import pytest
import torch

from fcos_cli.model.fcos import FCOS
from fcos_cli.model.postprocess import postprocess

SIZE = torch.tensor([[150, 200]])
MMDETECTION = ("mmdet-fcos-base-caffe", "mmdet-fcos-improved-torch", "mmdet-fcos-improved-r18-nmspre")
CASES = (
    "fcos-orig-base",
    "fcos-orig-imprv",
    "adet-fcos",
    "adet-fcos/thresh_with_ctr",
    "adet-fcos/quality_iou",
    "d2-fcos",
    *MMDETECTION,
)


@pytest.mark.parametrize("name", CASES)
def test_detections(case, name):
    """Of the recorded float64 outputs; the model has them before the activation, its scales are 1."""
    opened = case(name)
    model = FCOS(opened.recipe.model, 5).double()
    outputs = opened.recorded_outputs("test/raw64")
    if name in ("fcos-orig-imprv", *MMDETECTION) and model.head.config.normalize_targets:
        strides = model.pyramid.strides
        outputs["box"] = [distance / stride for distance, stride in zip(outputs["box"], strides, strict=True)]
    if model.head.config.box_activation == "exp":
        outputs["box"] = [distance.log() for distance in outputs["box"]]
    found = postprocess(outputs, SIZE, model, opened.recipe.test)
    prefix = f"{opened.variant}test/det64"
    boxes, scores = (opened.tensors[f"{prefix}/{column}"].double() for column in ("boxes", "scores"))
    order = scores.argsort(descending=True, stable=True)
    assert torch.equal(found.labels, opened.tensors[f"{prefix}/labels"][order])
    torch.testing.assert_close(found.scores.double(), scores[order], rtol=0, atol=1e-6)
    torch.testing.assert_close(found.boxes.double(), boxes[order], rtol=0, atol=1e-3)
