"""The published weights, and the style that weights have by their name."""

import pytest

from fcos_cli.errors import RecipeError
from fcos_cli.model.resnet import ARCHITECTURES
from fcos_cli.recipe.load import bundled, load_recipe
from fcos_cli.recipe.schema import BackboneConfig
from fcos_cli.weights.published import published, resolve_style


def test_published_names_are_whole():
    for name, entry in published().items():
        assert entry.name == name
        assert entry.architecture in ARCHITECTURES or entry.lacks
        assert entry.kind == "backbone" or (entry.ap and entry.licence)
        assert entry.megabytes > 100 or entry.kind == "backbone" or entry.lacks
        assert all(url.startswith("https://") for url in entry.urls)
        if entry.style == "pytorch" or entry.sha256:
            assert entry.urls[0].endswith(f"-{entry.sha256}.pth")
            assert len(entry.sha256) == 8
    covered = {entry.architecture for entry in published().values() if entry.kind == "backbone"}
    assert covered == set(ARCHITECTURES)


def test_every_bundled_recipe_names_weights_that_fit():
    for path in bundled().values():
        recipe = load_recipe(str(path)).recipe
        style = resolve_style(recipe.model.backbone)
        if recipe.model.backbone.weights.startswith(("msra/", "fair/")):
            assert style == "caffe"


@pytest.mark.parametrize(
    ("spec", "style"),
    [
        ("msra/R-50", "caffe"),
        ("torchvision/resnet50-v2", "pytorch"),
        ("", "pytorch"),
        ("my/own.pth", "pytorch"),
        ("my/R-50.pkl", "caffe"),
        ("zoo/resnet50_caffe-788b5fa3.pth", "caffe"),
        ("https://host/resnet50-0676ba61.pth", "pytorch"),
        ("own.safetensors", "pytorch"),
    ],
)
def test_auto_style(spec, style):
    assert resolve_style(BackboneConfig(name="resnet50", weights=spec)) == style


def test_a_file_may_be_of_either_style():
    for style in ("pytorch", "caffe"):
        assert resolve_style(BackboneConfig(weights="own.pth", weight_style=style)) == style


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"weights": "msra/R-50", "weight_style": "pytorch"}, r"model\.backbone\.weight_style = \"pytorch\"", "caffe"),
        ({"weights": "x/resnet50-0676ba61.pth", "weight_style": "caffe"}, r"model\.backbone\.weight_style", "pytorch"),
        ({"weights": "msra/R50"}, "neither published", "did you mean msra/R-50"),
        ({"weights": "msra/R-101"}, "is a resnet101", "msra/R-50"),
        ({"weights": "msra/R-50", "width": 32}, "64 wide", "width = 64"),
        ({"weights": "msra/R-50", "norm": "gn"}, "BatchNorm", "frozen_bn"),
        ({"weights": "msra/R-50", "norm": "bn"}, "folded", "frozen_bn"),
        ({"weights": "torchvision/fcos_resnet50_fpn"}, "whole detector", "model.weights"),
    ],
)
def test_contradictions_name_the_key(options, message, hint):
    with pytest.raises(RecipeError, match=message) as caught:
        resolve_style(BackboneConfig(name="resnet50", **options))
    assert hint in caught.value.hint
