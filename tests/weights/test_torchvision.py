"""torchvision itself against ours with its weights: the same names, features, outputs and detections."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from fcos_cli.data.datasets import image_files
from fcos_cli.model.fcos import FCOS
from fcos_cli.model.resnet import ARCHITECTURES, ResNet
from fcos_cli.recipe.schema import BackboneConfig, ModelConfig
from fcos_cli.recipe.schema import TestConfig as Limits
from fcos_cli.runtime.predictor import Predictor
from fcos_cli.weights.loading import foreign_model, load_backbone

CLASSES = 5
CPU = torch.device("cpu")
# An IoU of 9 / 15 is above 0.6 for torchvision's, as a double: no such ratio is near this limit.
LIMITS = Limits(short_side=96, long_side=160, score_threshold=0.2, threshold_on="score", nms_iou=0.613)
AS_TORCHVISION = {
    "pyramid": {"locations": "corner"},
    "head": {"box_activation": "relu", "normalize_targets": True, "quality_tower": "regression"},
}


def used(model: nn.Module) -> dict[str, torch.Tensor]:
    """The tensors that a detector or a backbone needs."""
    return {
        name: value
        for name, value in model.state_dict().items()
        if not name.startswith("fc.") and not name.endswith("num_batches_tracked")
    }


def like_trained(model: nn.Module, seed: int = 3) -> nn.Module:
    """Gives norms values that no initialisation gives, so that every tensor tells."""
    torch.manual_seed(seed)
    with torch.no_grad():
        for part in model.modules():
            if isinstance(part, nn.BatchNorm2d | nn.GroupNorm):
                part.weight.uniform_(0.5, 1)
                part.bias.normal_(std=0.1)
            if isinstance(part, nn.BatchNorm2d):
                part.momentum = 1.0
        getattr(model, "backbone", model).train()(torch.randn(2, 3, 96, 160))
    return model.eval()


@pytest.fixture(scope="module")
def theirs(torchvision):
    """torchvision's detector; its class and box layers vary enough to detect plenty."""
    torch.manual_seed(0)
    sizes = {"min_size": 96, "max_size": 160, "nms_thresh": LIMITS.nms_iou}
    model = torchvision.models.detection.fcos_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=CLASSES, **sizes
    )
    like_trained(model)
    with torch.no_grad():
        for layer in (model.head.classification_head.cls_logits, model.head.regression_head.bbox_ctrness):
            layer.weight.normal_(std=0.1)
        model.head.regression_head.bbox_reg.weight.normal_(std=0.05)
        model.head.regression_head.bbox_reg.bias.fill_(2.0)
    return model


@pytest.fixture
def ours(theirs, tmp_path):
    """Our detector with the weights of torchvision's, read from a file."""
    torch.save(theirs.state_dict(), tmp_path / "theirs.pth")
    config = ModelConfig.model_validate({**AS_TORCHVISION, "weights": str(tmp_path / "theirs.pth")})
    model, notes = foreign_model(config, CLASSES)
    assert notes == [f"weights from {tmp_path / 'theirs.pth'}, a detector of torchvision"]
    return model.eval()


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_names_and_shapes_of_a_backbone(torchvision, name):
    with torch.device("meta"):
        own = used(ResNet(BackboneConfig(name=name, norm="bn")))
        other = used(torchvision.models.get_model(name))
    assert {key: value.shape for key, value in own.items()} == {key: value.shape for key, value in other.items()}


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_features_of_a_backbone(torchvision, tmp_path, name):
    other = like_trained(torchvision.models.get_model(name))
    torch.save(other.state_dict(), tmp_path / "backbone.pth")
    model = FCOS(ModelConfig(backbone=BackboneConfig(name=name, weights=str(tmp_path / "backbone.pth"))), CLASSES)
    load_backbone(model)
    pixels = torch.randn(1, 3, 64, 96)
    with torch.no_grad():
        found = model.eval().backbone(pixels)
        x = other.maxpool(other.relu(other.bn1(other.conv1(pixels))))
        for level, stage in enumerate((other.layer1, other.layer2, other.layer3, other.layer4), start=2):
            x = stage(x)
            if level in found:
                torch.testing.assert_close(found[level], x, rtol=1e-3, atol=1e-4 * float(x.abs().max()))
    assert {3, 4, 5} <= set(found)


def test_parameters_of_the_detector(torchvision):
    with torch.device("meta"):
        other = torchvision.models.detection.fcos_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
        model = FCOS(ModelConfig(), 91)
    # Norms of the backbone are frozen in both; over there is no trained scale per level.
    frozen = sum(p.numel() for m in other.modules() if isinstance(m, nn.BatchNorm2d) for p in m.parameters())
    count = sum(p.numel() for p in other.parameters()) - frozen
    assert count == 32_269_600
    assert sum(p.numel() for p in model.parameters()) == count + model.head.scales.numel()


def test_outputs_of_the_detector(theirs, ours):
    pixels = torch.randn(2, 3, 96, 160)
    with torch.no_grad():
        found = ours(pixels)
        wanted = theirs.head(list(theirs.backbone(pixels).values()))
    for name, key in (("classification", "cls_logits"), ("quality", "bbox_ctrness")):
        flat = torch.cat([level.flatten(2) for level in found[name]], dim=2).transpose(1, 2)
        torch.testing.assert_close(flat, wanted[key], rtol=1e-3, atol=1e-3)
    boxes = torch.cat([level.flatten(2).relu() for level in found["box"]], dim=2).transpose(1, 2)
    torch.testing.assert_close(boxes, wanted["bbox_regression"], rtol=1e-3, atol=1e-3)


def test_detections_of_the_detector(theirs, ours, tmp_path):
    # Of the size that the network reads: the two resize by different filters.
    squares = np.random.default_rng(1).integers(0, 256, (4, 6, 3), dtype=np.uint8)
    pixels = np.kron(squares, np.ones((32, 32, 1), np.uint8))[:96, :160]
    Image.fromarray(pixels).save(tmp_path / "squares.png")
    data = image_files([str(tmp_path / "squares.png")])
    (found,) = Predictor(ours, LIMITS, device=CPU, precision="float32").run(data)
    with torch.no_grad():
        (wanted,) = theirs([torch.from_numpy(pixels).permute(2, 0, 1).float() / 255])
    assert len(found.boxes) == LIMITS.max_detections
    # By rows, not by places: two scores may be equal but for rounding.
    own = np.column_stack([found.boxes, found.labels, found.scores])
    other = np.column_stack([wanted[key].numpy() for key in ("boxes", "labels", "scores")])
    same = np.isclose(own[:, None], other, rtol=1e-4, atol=1e-2).all(axis=2)
    assert same.any(axis=0).all()
    assert same.any(axis=1).all()
