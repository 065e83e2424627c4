"""The weights others have published: names, files, what they are. Imports no torch.

A torchvision file's name ends in the start of its SHA-256. Caffe-style weights carry BatchNorm folded into a scale and
a shift, and were trained on BGR pixels in 0..255 (their stride placement: `resnet.py`).
"""

import difflib
from collections.abc import Mapping
from pathlib import PurePosixPath
from types import MappingProxyType
from urllib.parse import urlsplit

from fcos_cli.errors import RecipeError
from fcos_cli.recipe.schema import BackboneConfig, BackboneName, WeightStyle
from fcos_cli.weights.catalogue import detectors
from fcos_cli.weights.entry import Published

TORCHVISION = "https://download.pytorch.org/models/"
DETECTRON = "https://dl.fbaipublicfiles.com/detectron/ImageNetPretrained/"
WEIGHT_SUFFIXES = (".pth", ".pt", ".bin", ".pkl", ".safetensors")
PUBLISHED_WIDTH = 64


def _torchvision(name: str, architecture: BackboneName, stem: str, digest: str) -> Published:
    url = f"{TORCHVISION}{stem}-{digest}.pth"
    return Published(f"torchvision/{name}", "backbone", architecture, "pytorch", (url,), digest)


def _caffe(name: str, architecture: BackboneName, *paths: str) -> Published:
    return Published(name, "backbone", architecture, "caffe", tuple(DETECTRON + path for path in paths))


_ALL = (
    _torchvision("resnet18-v1", "resnet18", "resnet18", "f37072fd"),
    _torchvision("resnet34-v1", "resnet34", "resnet34", "b627a593"),
    _torchvision("resnet50-v1", "resnet50", "resnet50", "0676ba61"),
    _torchvision("resnet50-v2", "resnet50", "resnet50", "11ad3fa6"),
    _torchvision("resnet101-v1", "resnet101", "resnet101", "63fe2227"),
    _torchvision("resnet101-v2", "resnet101", "resnet101", "cd907fc2"),
    _torchvision("resnext101_32x8d-v1", "resnext101_32x8d", "resnext101_32x8d", "8ba56ff5"),
    _torchvision("resnext101_32x8d-v2", "resnext101_32x8d", "resnext101_32x8d", "110c445d"),
    _torchvision("resnext101_64x4d-v1", "resnext101_64x4d", "resnext101_64x4d", "173b62eb"),
    _caffe("msra/R-50", "resnet50", "MSRA/R-50.pkl"),
    _caffe("msra/R-101", "resnet101", "MSRA/R-101.pkl"),
    _caffe("fair/X-101-32x8d", "resnext101_32x8d", "20171220/X-101-32x8d.pkl"),
    # The first is what the FCOS authors' catalog names, the second what Detectron's model zoo does.
    _caffe("fair/X-101-64x4d", "resnext101_64x4d", "20171220/X-101-64x4d.pkl", "FBResNeXt/X-101-64x4d.pkl"),
    Published(
        "torchvision/fcos_resnet50_fpn",
        "detector",
        "resnet50",
        "pytorch",
        (f"{TORCHVISION}fcos_resnet50_fpn_coco-99b0c9b7.pth",),
        "99b0c9b7",
        ap=39.2,
        licence="BSD-3-Clause",
        megabytes=130,
    ),
    *detectors(),
)
_BY_NAME: Mapping[str, Published] = MappingProxyType({entry.name: entry for entry in _ALL})


def published() -> Mapping[str, Published]:
    """All published weights by name, e.g. "msra/R-50"."""
    return _BY_NAME


def is_url(spec: str) -> bool:
    """Whether weights are named by an address."""
    return urlsplit(spec).scheme in ("http", "https")


def resolve_style(backbone: BackboneConfig) -> WeightStyle:
    """The pixel format and stride placement of the recipe's backbone weights.

    A published name knows its style. For a file or an address `weight_style = "auto"` goes by the name: caffe for .pkl
    and for names with "caffe" or "msra", or of a published caffe file; else pytorch, as for random weights.

    Raises:
        RecipeError: an unknown name; a style, architecture, width or norm that the published weights do not have.
    """
    spec, wanted = backbone.weights, backbone.weight_style
    entry = published().get(spec)
    if entry is not None:
        _check_fits(entry, backbone)
        return entry.style
    if spec and not is_url(spec) and not spec.lower().endswith(WEIGHT_SUFFIXES):
        names = [name for name, known in published().items() if known.kind == "backbone"]
        near = difflib.get_close_matches(spec, names, n=1, cutoff=0.4)
        guess = f"did you mean {near[0]}? " if near else ""
        raise RecipeError(
            f'model.backbone.weights = "{spec}" is neither published weights nor a {", ".join(WEIGHT_SUFFIXES)} file',
            f'{guess}known: {", ".join(names)}; "" starts from random weights',
        )
    name = PurePosixPath(spec.replace("\\", "/")).name.lower()
    same = [known.style for known in published().values() if known.file_name.lower() == name]
    if same:
        if wanted not in ("auto", same[0]):
            raise style_clash(spec, same[0])
        return same[0]
    if wanted != "auto":
        return wanted
    return "caffe" if name.endswith(".pkl") or "caffe" in name or "msra" in name else "pytorch"


def style_clash(source: str, style: WeightStyle) -> RecipeError:
    """The error where weights of one style meet a network built for the other."""
    other = "pytorch" if style == "caffe" else "caffe"
    return RecipeError(
        f'model.backbone.weight_style = "{other}", but {source} holds {style}-style weights; mixed pixel formats or '
        "stride placement make training diverge",
        f"set model.backbone.weight_style = \"{style}\" (or 'auto' with a published name)",
    )


def _check_fits(entry: Published, backbone: BackboneConfig) -> None:
    if entry.kind == "detector":
        raise RecipeError(
            f"model.backbone.weights = {entry.name} names a whole detector",
            f'set model.weights = "{entry.name}" instead',
        )
    if backbone.weight_style not in ("auto", entry.style):
        raise style_clash(entry.name, entry.style)
    if entry.architecture != backbone.name:
        fitting = [known.name for known in _ALL if known.kind == "backbone" and known.architecture == backbone.name]
        raise RecipeError(
            f"model.backbone.weights = {entry.name} is a {entry.architecture}, model.backbone.name = {backbone.name}",
            f'set model.backbone.name = "{entry.architecture}", or model.backbone.weights to {" or ".join(fitting)}',
        )
    if backbone.width != PUBLISHED_WIDTH:
        raise RecipeError(
            f"model.backbone.width = {backbone.width}, but {entry.name} is {PUBLISHED_WIDTH} wide",
            f'set model.backbone.width = {PUBLISHED_WIDTH}, or model.backbone.weights = "" to start at random',
        )
    if backbone.norm == "gn":
        raise RecipeError(
            f'model.backbone.norm = "gn", but {entry.name} was trained with BatchNorm',
            'set model.backbone.norm = "frozen_bn", or model.backbone.weights = "" to start from random weights',
        )
    if backbone.norm == "bn" and entry.style == "caffe":
        raise folded_norm(entry.name)


def folded_norm(source: str) -> RecipeError:
    """The error where BatchNorm is to train, but the weights no longer have its statistics."""
    return RecipeError(
        f'model.backbone.norm = "bn", but {source} holds BatchNorm folded into a scale and a shift, which cannot train',
        'set model.backbone.norm = "frozen_bn", or take weights of torchvision\'s (see `fcos weights list`)',
    )
