"""What a detector's tensors show of its network: keys of the recipe by names and shapes; what the toolkit lacks."""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from fcos_cli.errors import WeightsError
from fcos_cli.model.resnet import ARCHITECTURES, Architecture

_LACKS = (
    (r"(^|.*\.)(conv\d?_)?offset(_mask)?\..*|.*\.conv\d_offset\..*", "deformable convolutions (DCN)"),
    (r".*\bshare(d)?_(tower|convs?)\..+", "towers that classes and boxes share"),
    (r".*(cls|bbox|reg)_(tower|convs|subnet)\..*(running_(mean|var)|\.bn\.weight)", "BatchNorm in the head's towers"),
    (r".*\b(level[0-5]\.(tree|root|project|conv|\d)|base_layer\.).*", "a DLA backbone"),
    (r".*\b(stem\.stem_\d|stage\d\.OSA).*", "a VoVNet backbone"),
    (r".*\bfeatures\.\d+\.conv\..*", "a MobileNet backbone"),
    (r".*\b(mu|sigma|center_prior\.(mean|sigma))$", "AutoAssign's centre prior"),
)


def lacking(names: Mapping[str, object]) -> list[str]:
    """What a file with tensors of these names needs and this toolkit does not have; [] is nothing."""
    return [what for pattern, what in _LACKS if any(re.fullmatch(pattern, name) for name in names)]


def architecture(state: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    """Keys of a recipe that the tensors of a detector, under our names, show.

    Raises:
        WeightsError: they are not those of a residual network with a pyramid and an FCOS head.
    """
    keys: dict[str, Any] = {**_backbone(state, source), "model.backbone.norm": "frozen_bn"}
    lateral = sorted(_numbers(state, r"fpn\.lateral\.c(\d)\.weight"))
    outputs = sorted(_numbers(state, r"fpn\.output\.p(\d)\.weight"))
    extra = sorted(_numbers(state, r"fpn\.extra\.p(\d)\.weight"))
    if not lateral or not outputs:
        raise WeightsError(f"{source} has no feature pyramid that is known here", "its tensors: fcos weights show FILE")
    channels = state[f"fpn.lateral.c{lateral[0]}.weight"].shape[0]
    keys["model.pyramid.channels"] = channels
    keys["model.pyramid.levels"] = [*outputs, *extra]
    p6, top = state.get("fpn.extra.p6.weight"), state[f"fpn.lateral.c{lateral[-1]}.weight"].shape[1]
    if p6 is not None:
        # Where both have as many channels it is p5, which every FCOS has.
        keys["model.pyramid.extra_from"] = "c5" if p6.shape[1] == top != channels else "p5"
    convs = [name for name, value in state.items() if _TOWER.fullmatch(name) and value.ndim == 4]
    norms = [name for name, value in state.items() if _TOWER.fullmatch(name) and value.ndim == 1]
    keys["model.head.convs"] = len(convs)
    keys["model.head.norm"] = "gn" if norms else "none"
    if "head.quality.weight" not in state:
        keys["model.head.quality"] = "none"
    return keys


_TOWER = re.compile(r"head\.class_tower\.\d+\.weight")


def _numbers(state: Mapping[str, Tensor], pattern: str) -> Iterator[int]:
    return (int(match[1]) for name in state if (match := re.fullmatch(pattern, name)))


def _backbone(state: Mapping[str, Tensor], source: str) -> dict[str, Any]:
    stem, middle = state.get("backbone.conv1.weight"), state.get("backbone.layer1.0.conv2.weight")
    if stem is None or middle is None or stem.ndim != 4 or middle.ndim != 4:
        raise WeightsError(
            f"{source} has a backbone that is not a ResNet or ResNeXt", f"known here: {', '.join(ARCHITECTURES)}"
        )
    names = [name.removeprefix("backbone.") for name in state if name.startswith("backbone.")]
    blocks = tuple(len({name.split(".")[1] for name in names if name.startswith(f"layer{n}.")}) for n in (1, 2, 3, 4))
    found = Architecture(
        blocks,  # type: ignore[arg-type]
        bottleneck="layer1.0.conv3.weight" in names,
        groups=middle.shape[0] // middle.shape[1],
    )
    for name, known in ARCHITECTURES.items():
        same = (known.blocks, known.bottleneck, known.groups) == (found.blocks, found.bottleneck, found.groups)
        if same:
            return {"model.backbone.name": name, "model.backbone.width": stem.shape[0]}
    raise WeightsError(
        f"{source} has a residual network of {blocks} blocks and {found.groups} groups, which is not known here",
        f"known: {', '.join(ARCHITECTURES)}",
    )
