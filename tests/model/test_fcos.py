from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
from torch import nn

from fcos_cli.errors import RecipeError
from fcos_cli.method.fcos.tables import FCOSHeadConfig
from fcos_cli.model.fcos import FCOS
from fcos_cli.model.pixels import MSRA, PixelFormat
from fcos_cli.model.resnet import FrozenBatchNorm
from fcos_cli.recipe.load import load_recipe
from fcos_cli.recipe.schema import BackboneConfig, BackboneName, ModelConfig, PyramidConfig

RECIPES = Path(__file__).parents[2] / "recipes"


def tiny(style="pytorch", classes=3, **changes) -> FCOS:
    config = ModelConfig(
        backbone=BackboneConfig(name="resnet18", width=8, norm="bn", frozen_stages=0, weights=""),
        pyramid=PyramidConfig(channels=16),
        head=FCOSHeadConfig(groups=4, convs=2),
    )
    return FCOS(config.model_copy(update=changes), classes, style)


def test_r50_has_torchvisions_parameters_and_the_scales():
    with torch.device("meta"):
        model = FCOS(ModelConfig(), 91)
    # torchvision's fcos_resnet50_fpn has 32,269,600: the same convolutions and norms, no trained scale per level.
    assert sum(p.numel() for p in model.parameters()) == 32_269_600 + model.head.scales.numel()
    assert model.head.scales.shape == (5,)


@pytest.mark.parametrize("name", get_args(BackboneName))
@pytest.mark.parametrize("norm", ["frozen_bn", "bn", "gn"])
def test_every_backbone_builds_at_800_by_1333(name, norm):
    with torch.device("meta"):
        model = FCOS(ModelConfig(backbone=BackboneConfig(name=name, norm=norm)), 80)
        outputs = model(torch.empty(1, 3, 800, 1344))
    grids = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]
    assert [tuple(level.shape[2:]) for level in outputs["classification"]] == grids
    assert list(model.pyramid.grids(800, 1344)) == grids


@pytest.mark.parametrize("path", sorted(RECIPES.rglob("*.toml")), ids=lambda path: path.stem)
def test_every_bundled_recipe_builds(path):
    with torch.device("meta"):
        recipe = load_recipe(str(path)).recipe
        model = FCOS(recipe.model, 80)
        outputs = model(torch.empty(1, 3, 320, 416))
    assert [tuple(t.shape[2:]) for t in outputs["box"]] == list(model.pyramid.grids(320, 416))


def images():
    generator = np.random.default_rng(0)
    return [generator.integers(0, 256, (height, width, 3), dtype=np.uint8) for height, width in ((37, 90), (64, 50))]


@pytest.mark.parametrize("style", ["pytorch", "caffe"])
@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
def test_pixels_are_normalised_then_padded(style, layout):
    batch = tiny(style).preprocess([torch.from_numpy(image) for image in images()], layout)
    assert batch.pixels.shape == (2, 3, 64, 96)
    assert batch.pixels.dtype == torch.float32
    assert batch.pixels.is_contiguous(memory_format=layout)
    assert batch.sizes.tolist() == [[37, 90], [64, 50]]
    for pixels, image in zip(batch.pixels.numpy(), images(), strict=True):
        expected = np.zeros((64, 96, 3))
        if style == "pytorch":
            values = (image / 255 - np.array([0.485, 0.456, 0.406])) / np.array([0.229, 0.224, 0.225])
        else:
            values = image[:, :, ::-1] - np.array([102.9801, 115.9465, 122.7717])
        expected[: image.shape[0], : image.shape[1]] = values
        np.testing.assert_allclose(pixels.transpose(1, 2, 0), expected, rtol=1e-5, atol=2e-5)


def test_images_must_be_rgb_bytes():
    for wrong in (torch.zeros(4, 4, 3), torch.zeros(3, 4, 4, dtype=torch.uint8)):
        with pytest.raises(ValueError, match="uint8"):
            tiny().preprocess([wrong])


def test_bfloat16_channels_last_goes_through_every_layer():
    model = tiny().to(memory_format=torch.channels_last)
    seen: list[str] = []

    def check(module, inputs, output):
        if output.dtype != torch.bfloat16 or not output.is_contiguous(memory_format=torch.channels_last):
            seen.append(f"{type(module).__name__} {output.dtype} {output.stride()}")

    for module in model.modules():
        if isinstance(module, nn.Conv2d | nn.BatchNorm2d | nn.GroupNorm):
            module.register_forward_hook(check)
    batch = model.preprocess([torch.from_numpy(image) for image in images()])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        outputs = model(batch.pixels)
    assert seen == []
    sum(level.float().sum() for level in (*outputs["classification"], *outputs["box"])).backward()
    assert all(p.grad is None or p.grad.dtype == torch.float32 for p in model.parameters())


def test_channels_last_gives_the_same_outputs():
    torch.manual_seed(0)
    model = tiny().eval()
    pixels = torch.randn(2, 3, 64, 96)
    plain = model(pixels)
    other = model.to(memory_format=torch.channels_last)(pixels.to(memory_format=torch.channels_last))
    for a, b in zip(plain["classification"], other["classification"], strict=True):
        assert torch.allclose(a, b, atol=1e-4)


def test_units_are_strides_where_targets_are_normalised():
    assert tiny().head.units == (1.0,) * 5
    improved = FCOSHeadConfig(groups=4, convs=1, normalize_targets=True)
    assert tiny(head=improved).head.units == (
        8.0,
        16.0,
        32.0,
        64.0,
        128.0,
    )


def test_state_names_and_pixel_statistics():
    names = set(tiny().state_dict())
    for name in (
        "backbone.layer1.0.conv1.weight",
        "fpn.lateral.c3.weight",
        "fpn.output.p5.bias",
        "fpn.extra.p7.weight",
        "head.class_tower.0.weight",
        "head.box_tower.4.bias",
        "head.class_logits.bias",
        "head.box_output.weight",
        "head.quality.weight",
        "head.scales",
    ):
        assert name in names
    assert not any(name.startswith("pixel") for name in names)


def test_frozen_norms_hold_no_parameters_anywhere():
    with torch.device("meta"):
        model = FCOS(ModelConfig(), 3)
    frozen = [module for module in model.modules() if isinstance(module, FrozenBatchNorm)]
    assert len(frozen) == 53
    assert all(not list(module.parameters()) for module in frozen)


def test_a_wrong_pyramid_names_the_key():
    with pytest.raises(RecipeError, match=r"model\.pyramid"):
        tiny(pyramid=PyramidConfig(channels=16, levels=[3, 5]))


def test_pixels_are_data():
    """Weights' own mean, and a recipe's keys before them; the style only where neither says anything."""
    theirs = PixelFormat("bgr", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0))
    backbone = BackboneConfig(name="resnet18", width=8, norm="bn", frozen_stages=0, weights="")
    config = ModelConfig(backbone=backbone, pyramid=PyramidConfig(channels=16), head=FCOSHeadConfig(groups=4, convs=2))
    image = torch.full((32, 32, 3), 0, dtype=torch.uint8)
    image[:, :, 2] = 200  # blue
    assert FCOS(config, 3, "caffe").pixels == MSRA
    pixels = FCOS(config, 3, "pytorch", theirs).preprocess([image]).pixels
    assert pixels[0, :, 0, 0].tolist() == pytest.approx([200 - 103.53, -116.28, -123.675], rel=1e-6)
    asked = backbone.model_copy(update={"pixel_order": "rgb", "pixel_std": (2.0, 2.0, 4.0)})
    pixels = FCOS(config.model_copy(update={"backbone": asked}), 3, "caffe", theirs).preprocess([image]).pixels
    expected = [-103.53 / 2, -116.28 / 2, (200 - 123.675) / 4]
    assert pixels[0, :, 0, 0].tolist() == pytest.approx(expected, rel=1e-6)
