"""What several projects' files share: renaming by rules, and parts of the names themselves."""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from fcos_cli.weights.peers.peer import State

BN_EPS = 1e-5
"""What BatchNorm adds to a variance, here and in every project but the authors' code."""

Rules: TypeAlias = Sequence[tuple[str, str]]
"""(pattern of a whole name, our name): the first that fits counts. `{\\1+3}` is a number of the match plus 3,
`{\\1*3+1}` three times it plus 1."""

_UNUSED = re.compile(
    r"(fc|linear|classifier)\..*|.*num_batches_tracked|.*_momentum|(fc1000|pred)_[wb]|pixel_(mean|std)"
)
_SUM = re.compile(r"\{(\d+)(?:\*(\d+))?([+-]\d+)\}")

TOWERS: Rules = (
    (r"cls_tower\.(.+)", r"head.class_tower.\1"),
    (r"bbox_tower\.(.+)", r"head.box_tower.\1"),
    (r"cls_logits\.(\w+)", r"head.class_logits.\1"),
    (r"bbox_pred\.(\w+)", r"head.box_output.\1"),
    (r"(?:centerness|ctrness)\.(\w+)", r"head.quality.\1"),
    (r"scales\.(\d+)\.scale", r"head.scales.\1"),
)
"""The head as the authors' code names it, and what was made from that."""


def any_starts(prefix: str) -> Callable[[State], bool]:
    """Whether a name starts with this."""
    return lambda state: any(name.startswith(prefix) for name in state)


def unused(name: str) -> bool:
    """A tensor that no detector needs: a classifier, a counter, the momentum of a training."""
    return _UNUSED.fullmatch(name) is not None


def below(prefix: str, rules: Rules, ours: str = "") -> Rules:
    """The same rules for names that start with `prefix` (a pattern), ours with `ours`."""
    return tuple((prefix + pattern, ours + name) for pattern, name in rules)


def rename(state: State, rules: Rules = ()) -> dict[str, Tensor]:
    """The tensors under our names, without the unused ones; a name that no rule fits is kept."""
    compiled = [(re.compile(pattern), name) for pattern, name in rules]
    return {_renamed(compiled, name): value for name, value in state.items() if not unused(name)}


def _renamed(rules: Sequence[tuple[re.Pattern[str], str]], name: str) -> str:
    for pattern, template in rules:
        if match := pattern.fullmatch(name):
            return _SUM.sub(lambda term: str(int(term[1]) * int(term[2] or 1) + int(term[3])), match.expand(template))
    return name


def stack_scales(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """One scalar a level, head.scales.0 and so on, as one tensor head.scales of all."""
    names = sorted(
        (name for name in state if name.startswith("head.scales.")), key=lambda name: int(name.split(".")[-1])
    )
    if names:
        state["head.scales"] = torch.stack([state.pop(name).reshape(()) for name in names]).float()
    return state


_CONV_BIAS = re.compile(r"((?:backbone\.)?(?:layer\d\.\d+\.)?)(conv(\d)|downsample\.0)\.bias")


def absorbed(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A backbone's convolution biases, which caffe-style files have, in the norms that follow: the same function.

    norm(x + b) is the norm with a mean of mean - b; where the file has no norm, b is the shift of one that does nothing
    else.
    """
    whole = dict(state)
    for name, bias in state.items():
        if not (match := _CONV_BIAS.fullmatch(name)):
            continue
        norm = match[1] + (f"bn{match[3]}" if match[3] else "downsample.1")
        mean = whole.get(f"{norm}.running_mean")
        if mean is not None:
            whole[f"{norm}.running_mean"] = mean - bias
        else:
            ones, zeros = torch.ones_like(bias), torch.zeros_like(bias)
            terms = {"weight": ones, "bias": bias, "running_mean": zeros, "running_var": ones * (1 - BN_EPS)}
            whole |= {f"{norm}.{term}": value for term, value in terms.items()}
        del whole[name]
    return whole
