"""torchvision's own prediction with random weights, against its file imported here, on real images."""

import numpy as np
import pytest
import torch
from PIL import Image

from fcos_cli.geometry.resize import resized_size
from fcos_cli.model.postprocess import postprocess
from fcos_cli.weights.importing import import_detector

IMAGES, SHORT_SIDE = 20, 192


@pytest.fixture(scope="module")
def networks(tmp_path_factory):
    """torchvision's network, whose class bias lets candidates through, and ours of its file."""
    detection = pytest.importorskip("torchvision.models.detection")
    torch.manual_seed(15)
    theirs = detection.fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91).eval()
    with torch.no_grad():
        theirs.head.classification_head.cls_logits.weight.normal_(std=0.03)
        theirs.head.classification_head.cls_logits.bias.fill_(-2.0)
        theirs.head.regression_head.bbox_reg.weight.normal_(std=0.03)
        theirs.head.regression_head.bbox_reg.bias.fill_(2.0)
    path = tmp_path_factory.mktemp("live") / "fcos_resnet50_fpn.pth"
    torch.save(theirs.state_dict(), path)
    names = [f"id {number}" for number in range(91)]
    return theirs, import_detector(path, classes=names).detector


def test_detections_of_real_images(networks, shared_data):
    theirs, detector = networks
    files = sorted((shared_data / "coco128").rglob("*.jpg"))[:IMAGES]
    assert len(files) == IMAGES
    test = detector.recipe.test
    compared = 0
    for file in files:
        with Image.open(file) as opened:
            image = opened.convert("RGB").resize(resized_size(*opened.size, SHORT_SIDE, 333))
        pixels = torch.from_numpy(np.asarray(image).copy())
        theirs.transform.min_size, theirs.transform.max_size = (min(image.size),), max(image.size)
        with torch.no_grad():
            [wanted] = theirs([pixels.permute(2, 0, 1).float() / 255])
            batch = detector.model.preprocess([pixels])
            found = postprocess(detector.model(batch.pixels), batch.sizes, detector.model, test)
        # torchvision reports boxes without an area, ours never does
        area = (wanted["boxes"][:, 2:] > wanted["boxes"][:, :2]).all(dim=1)
        wanted = {name: column[area] for name, column in wanted.items()}
        count = len(wanted["scores"])
        assert len(found.scores) >= count > 0
        torch.testing.assert_close(found.scores[:count], wanted["scores"], rtol=0, atol=1e-4)
        # of equal scores the order is nobody's
        for label, score, box in zip(wanted["labels"], wanted["scores"], wanted["boxes"], strict=True):
            near = (found.labels == label) & ((found.scores - score).abs() < 1e-4)
            distance = (found.boxes[near] - box).abs().amax(dim=1) if near.any() else torch.tensor([torch.inf])
            assert distance.min() < 0.01, file.name
        compared += count
    assert compared > 10 * IMAGES
