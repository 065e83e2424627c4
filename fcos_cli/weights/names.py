"""Other people's names for the same tensors: which project a file comes from, and its names in ours.

Backbones: torchvision (timm, mmpretrain), Detectron's Caffe2 blobs, detectron2. Detectors: torchvision's FCOS, the
authors' official code, AdelaiDet (detectron2), and this toolkit's own.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from fcos_cli.recipe.schema import WeightStyle

BN_EPS = 1e-5
Origin = Literal["fcos", "torchvision", "caffe2", "detectron2", "official", "adelaidet"]
Rules = Sequence[tuple[str, str]]

_DETECTRON2_BODY: Rules = (
    (r"stem\.conv1\.norm\.(\w+)", r"bn1.\1"),
    (r"stem\.conv1\.weight", r"conv1.weight"),
    (r"res(\d)\.(\d+)\.shortcut\.norm\.(\w+)", r"layer{\1}.\2.downsample.1.\3"),
    (r"res(\d)\.(\d+)\.shortcut\.weight", r"layer{\1}.\2.downsample.0.weight"),
    (r"res(\d)\.(\d+)\.conv(\d)\.norm\.(\w+)", r"layer{\1}.\2.bn\3.\4"),
    (r"res(\d)\.(\d+)\.conv(\d)\.weight", r"layer{\1}.\2.conv\3.weight"),
)
_TORCHVISION: Rules = (
    (r"backbone\.body\.(.+)", r"backbone.\1"),
    (r"backbone\.fpn\.inner_blocks\.(\d)(?:\.0)?\.(\w+)", r"fpn.lateral.c{\1+3}.\2"),
    (r"backbone\.fpn\.layer_blocks\.(\d)(?:\.0)?\.(\w+)", r"fpn.output.p{\1+3}.\2"),
    (r"backbone\.fpn\.extra_blocks\.(p\d\.\w+)", r"fpn.extra.\1"),
    (r"head\.classification_head\.conv\.(.+)", r"head.class_tower.\1"),
    (r"head\.classification_head\.cls_logits\.(\w+)", r"head.class_logits.\1"),
    (r"head\.regression_head\.conv\.(.+)", r"head.box_tower.\1"),
    (r"head\.regression_head\.bbox_reg\.(\w+)", r"head.box_output.\1"),
    (r"head\.regression_head\.bbox_ctrness\.(\w+)", r"head.quality.\1"),
)
_TOWERS: Rules = (
    (r"cls_tower\.(.+)", r"head.class_tower.\1"),
    (r"bbox_tower\.(.+)", r"head.box_tower.\1"),
    (r"cls_logits\.(\w+)", r"head.class_logits.\1"),
    (r"bbox_pred\.(\w+)", r"head.box_output.\1"),
    (r"(?:centerness|ctrness)\.(\w+)", r"head.quality.\1"),
    (r"scales\.(\d+)\.scale", r"head.scales.\1"),
)
_OFFICIAL: Rules = (
    (r"backbone\.body\.stem\.(.+)", r"backbone.\1"),
    (r"backbone\.body\.(layer.+)", r"backbone.\1"),
    (r"backbone\.fpn\.fpn_inner(\d)\.(\w+)", r"fpn.lateral.c{\1+1}.\2"),
    (r"backbone\.fpn\.fpn_layer(\d)\.(\w+)", r"fpn.output.p{\1+1}.\2"),
    (r"backbone\.fpn\.top_blocks\.(p\d\.\w+)", r"fpn.extra.\1"),
    *((rf"rpn\.head\.{pattern}", name) for pattern, name in _TOWERS),
)
_ADELAIDET: Rules = (
    *((rf"backbone\.bottom_up\.{pattern}", f"backbone.{name}") for pattern, name in _DETECTRON2_BODY),
    (r"backbone\.fpn_lateral(\d)\.(\w+)", r"fpn.lateral.c\1.\2"),
    (r"backbone\.fpn_output(\d)\.(\w+)", r"fpn.output.p\1.\2"),
    (r"backbone\.top_block\.(p\d\.\w+)", r"fpn.extra.\1"),
    *((rf"proposal_generator\.fcos_head\.{pattern}", name) for pattern, name in _TOWERS),
)
_CAFFE2_CONVS = {"1": "downsample.0", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
_CAFFE2_NORMS = {"1": "downsample.1", "2a": "bn1", "2b": "bn2", "2c": "bn3"}
_CAFFE2_BLOCK = re.compile(r"res(\d)_(\d+)_branch(1|2a|2b|2c)_(w|b|bn_s|bn_b|bn_rm|bn_riv)")
_CAFFE2_STEM = re.compile(r"(?:res_)?conv1_(w|b|bn_s|bn_b|bn_rm|bn_riv)")
_CAFFE2_TERMS = {"bn_s": "weight", "bn_b": "bias", "bn_rm": "running_mean", "bn_riv": "running_var"}
_UNUSED = re.compile(
    r"(fc|linear|classifier)\..*|.*num_batches_tracked|.*_momentum|(fc1000|pred)_[wb]|pixel_(mean|std)"
)


class Named(NamedTuple):
    """Tensors under our names, and where they come from."""

    state: dict[str, Tensor]
    origin: Origin
    style: WeightStyle | None
    """the style the origin implies; None where it implies none"""


def backbone_names(state: Mapping[str, Tensor]) -> Named:
    """A backbone's tensors under our names without "backbone."; a whole detector gives its backbone."""
    if any(name.startswith(("backbone.", "rpn.")) for name in state):
        origin, style = _detector_origin(state)
        if origin is not None:
            whole = detector_names(state)
            body = {name.removeprefix("backbone."): value for name, value in whole.state.items() if _in_backbone(name)}
            return Named(body, origin, style)
        state = {name.removeprefix("backbone."): value for name, value in state.items() if _in_backbone(name)}
    if any(_CAFFE2_BLOCK.fullmatch(name) for name in state):
        return Named(_from_caffe2(state), "caffe2", "caffe")
    if any(name.startswith("stem.conv1.") for name in state):
        return Named(_rename(state, _DETECTRON2_BODY), "detectron2", None)
    return Named(_rename(state, ()), "torchvision", None)


def detector_names(state: Mapping[str, Tensor]) -> Named:
    """A detector's tensors under our names. Names that no rule knows are kept, for the error that lists them."""
    origin, style = _detector_origin(state)
    if origin == "torchvision":
        return Named(_rename(state, _TORCHVISION), origin, style)
    if origin == "official":
        return Named(_with_eps(_stack_scales(_rename(state, _OFFICIAL))), origin, style)
    if origin == "adelaidet":
        return Named(_stack_scales(_rename(state, _ADELAIDET)), origin, style)
    return Named(_rename(state, ()), "fcos", None)


def is_foreign_detector(state: Mapping[str, Tensor]) -> bool:
    """Whether a file holds a whole detector of another project."""
    return _detector_origin(state)[0] not in (None, "fcos")


def _in_backbone(name: str) -> bool:
    return name.startswith("backbone.")


def _detector_origin(state: Mapping[str, Tensor]) -> tuple[Origin | None, WeightStyle | None]:
    """Which project's detector this is, and its style: AdelaiDet carries its pixel statistics, the others have one."""
    if any(name.startswith("head.classification_head.") for name in state):
        return "torchvision", "pytorch"
    if any(name.startswith("rpn.head.") for name in state):
        return "official", "caffe"
    if any(name.startswith("proposal_generator.fcos_head.") for name in state):
        spread = state.get("pixel_std")
        return "adelaidet", "caffe" if spread is None or bool((spread == 1).all()) else None
    if any(name.startswith("head.class_logits.") for name in state):
        return "fcos", None
    return None, None


def _rename(state: Mapping[str, Tensor], rules: Rules) -> dict[str, Tensor]:
    compiled = [(re.compile(pattern), name) for pattern, name in rules]
    renamed: dict[str, Tensor] = {}
    for name, value in state.items():
        if not _UNUSED.fullmatch(name):
            renamed[_apply(compiled, name)] = value
    return renamed


def _apply(rules: Sequence[tuple[re.Pattern[str], str]], name: str) -> str:
    for pattern, template in rules:
        if match := pattern.fullmatch(name):
            expanded = match.expand(template)
            # {2} is a detectron stage (res2 is layer1); {0+3} counts on from an offset.
            expanded = re.sub(r"\{(\d+)\+(\d)\}", lambda m: str(int(m[1]) + int(m[2])), expanded)
            return re.sub(r"\{(\d)\}", lambda m: str(int(m[1]) - 1), expanded)
    return name


def _stack_scales(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """One scalar a level -> one tensor of all."""
    names = sorted(
        (name for name in state if name.startswith("head.scales.")), key=lambda name: int(name.split(".")[-1])
    )
    if names:
        state["head.scales"] = torch.stack([state.pop(name).reshape(()) for name in names]).float()
    return state


def _with_eps(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The official code's frozen BatchNorm has no eps: var - eps makes var + eps what it divides by."""
    return {name: value - BN_EPS if name.endswith("running_var") else value for name, value in state.items()}


def _from_caffe2(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Detectron's blobs. Where only scale and shift remain of a BatchNorm, mean 0 and var 1 - eps give just these."""
    renamed: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}
    for name, value in state.items():
        if _UNUSED.fullmatch(name):
            continue
        if match := _CAFFE2_BLOCK.fullmatch(name):
            stage, block, branch, term = match.groups()
            prefix = f"layer{int(stage) - 1}.{block}."
            conv, norm = prefix + _CAFFE2_CONVS[branch], prefix + _CAFFE2_NORMS[branch]
        elif match := _CAFFE2_STEM.fullmatch(name):
            conv, norm, term = "conv1", "bn1", match[1]
        else:
            renamed[name] = value
            continue
        if term == "w":
            renamed[f"{conv}.weight"] = value
        elif term == "b":
            biases[norm] = value
        else:
            renamed[f"{norm}.{_CAFFE2_TERMS[term]}"] = value
    for name in [name.removesuffix(".weight") for name in renamed if re.search(r"(bn\d|downsample\.1)\.weight$", name)]:
        scale = renamed[f"{name}.weight"]
        mean = renamed.setdefault(f"{name}.running_mean", torch.zeros_like(scale))
        renamed.setdefault(f"{name}.running_var", torch.full_like(scale, 1 - BN_EPS))
        if name in biases:
            renamed[f"{name}.running_mean"] = mean - biases[name]
    return renamed
