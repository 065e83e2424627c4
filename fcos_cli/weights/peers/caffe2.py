"""Detectron's Caffe2 blobs: backbones of MSRA and FAIR, whose BatchNorm is often folded into a scale and a shift."""

import re

import torch
from torch import Tensor

from fcos_cli.weights.peers.peer import FileKind, Peer, State
from fcos_cli.weights.peers.renaming import BN_EPS, unused

_BLOCK = re.compile(r"res(\d)_(\d+)_branch(1|2a|2b|2c)_(w|b|bn_s|bn_b|bn_rm|bn_riv)")
_STEM = re.compile(r"(?:res_)?conv1_(w|b|bn_s|bn_b|bn_rm|bn_riv)")
_CONVS = {"1": "downsample.0", "2a": "conv1", "2b": "conv2", "2c": "conv3"}
_NORMS = {"1": "downsample.1", "2a": "bn1", "2b": "bn2", "2c": "bn3"}
_TERMS = {"bn_s": "weight", "bn_b": "bias", "bn_rm": "running_mean", "bn_riv": "running_var"}


def _recognised(state: State) -> bool:
    return any(_BLOCK.fullmatch(name) for name in state)


def _to_ours(state: State) -> dict[str, Tensor]:
    """Where only scale and shift remain of a BatchNorm, mean 0 and variance 1 - eps give just these."""
    renamed: dict[str, Tensor] = {}
    biases: dict[str, Tensor] = {}
    for name, value in state.items():
        if unused(name):
            continue
        if match := _BLOCK.fullmatch(name):
            stage, block, branch, term = match.groups()
            prefix = f"layer{int(stage) - 1}.{block}."
            conv, norm = prefix + _CONVS[branch], prefix + _NORMS[branch]
        elif match := _STEM.fullmatch(name):
            conv, norm, term = "conv1", "bn1", match[1]
        else:
            renamed[name] = value
            continue
        if term == "w":
            renamed[f"{conv}.weight"] = value
        elif term == "b":
            biases[norm] = value
        else:
            renamed[f"{norm}.{_TERMS[term]}"] = value
    for name in [name.removesuffix(".weight") for name in renamed if re.search(r"(bn\d|downsample\.1)\.weight$", name)]:
        scale = renamed[f"{name}.weight"]
        mean = renamed.setdefault(f"{name}.running_mean", torch.zeros_like(scale))
        renamed.setdefault(f"{name}.running_var", torch.full_like(scale, 1 - BN_EPS))
        if name in biases:
            renamed[f"{name}.running_mean"] = mean - biases[name]
    return renamed


CAFFE2 = Peer(
    name="caffe2",
    title="Detectron (Caffe2)",
    backbone=FileKind(recognised=_recognised, to_ours=_to_ours, style=lambda state: "caffe"),
)
