"""A detector's network made ready for inference: a copy that costs less a call than the model it was made of.

- Frozen and trained BatchNorm are folded into the convolutions once (in float64), not at every call.
- Half precision is a matter of weights: they are cast once, and nothing is cast by autocast at each call. GroupNorm
  takes its statistics in float32 all the same.
- On the CPU, oneDNN lays the weights out once for its kernels, and adds the shortcut and rectifies while it writes the
  convolution; wide 3x3 convolutions in float32 go by `winograd.py`.

Not used, because it does not pay back within a folder of 100 images (docs/bench-predict.md): torch.compile, which takes
longer to compile than it saves, calls the same convolutions in the end and knows no Winograd.
"""

import copy
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn

from fcos_cli.method.interface import Outputs
from fcos_cli.model.fcos import FCOS
from fcos_cli.model.resnet import Block, Bottleneck, FrozenBatchNorm
from fcos_cli.runtime.convolutions import fastest
from fcos_cli.runtime.precision import Precision

Network = Callable[[Tensor], Outputs]


def as_it_stands(model: FCOS, precision: Precision) -> Network:
    """The model itself, under autocast: for one that is being trained, whose weights move between calls."""

    def run(pixels: Tensor) -> Outputs:
        with precision.autocast():
            return model(pixels)

    return run


def prepare(model: FCOS, precision: Precision) -> Network:
    """A copy of a model's network for inference, where the model stands; the model is left as it is.

    Args:
        model: in any mode; changes of its weights after this are not seen.
        precision: what the copy computes in.

    Returns:
        A function: pixels float32 [N, 3, H, W] -> the raw outputs of each level, in the precision's dtype. Its outputs
        are those of the model in eval mode to rounding.
    """
    dtype = precision.dtype or torch.float32
    network = copy.deepcopy(model).eval().requires_grad_(False)
    with torch.no_grad():
        _fold_norms(network)
        head = network.head
        if not head.plain:
            setattr(network, "head", nn.Identity())  # noqa: B010 - of another type for a while
        for module in network.modules():
            if not isinstance(module, nn.GroupNorm):
                for tensor in module.parameters(recurse=False):
                    tensor.data = tensor.data.to(dtype)
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload, unused-ignore]
        _replace_convolutions(network)
        if not head.plain:
            setattr(network, "head", _AsItStands(head, precision))  # noqa: B010

    @torch.inference_mode()
    def run(pixels: Tensor) -> Outputs:
        return network(pixels.to(dtype, memory_format=torch.channels_last))

    return run


class _AsItStands(nn.Module):
    """A head whose modules nobody may exchange: under autocast, as in training."""

    def __init__(self, head: nn.Module, precision: Precision) -> None:
        super().__init__()
        self.head, self.precision = head, precision

    def forward(self, levels: Sequence[Tensor]) -> Outputs:
        with self.precision.autocast():
            outputs: Outputs = self.head([level.float() for level in levels])
            return outputs


class _Residual(nn.Module):
    """A residual block out of `Convolution`s."""

    def __init__(self, block: Block) -> None:
        super().__init__()
        *before, last = (fastest(block.get_submodule(conv)) for conv, _ in _pairs(block))
        self.before, self.last = nn.ModuleList(before), last
        self.shortcut = None if block.downsample is None else fastest(block.downsample[0])

    def forward(self, x: Tensor) -> Tensor:
        y = x
        for convolution in self.before:
            y = convolution(y, relu=True)
        # Written over: without a projection the input is the block before's output, which nothing else reads.
        residual = x if self.shortcut is None else self.shortcut(x)
        return self.last(y, residual, relu=True)


class _Float32GroupNorm(nn.Module):
    """Of the backbone: half-precision maps normalised in float32, as autocast does it."""

    def __init__(self, norm: nn.GroupNorm) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x.float()).to(x.dtype)


def _fold_norms(network: FCOS) -> None:
    """Every convolution that a fixed norm follows takes it in; the norm becomes an identity."""
    backbone = network.backbone
    _fold(backbone, "conv1", backbone, "bn1")
    for block in [module for module in backbone.modules() if isinstance(module, Block)]:
        for conv, norm in _pairs(block):
            _fold(block, conv, block, norm)
        if block.downsample is not None:
            _fold(block.downsample, "0", block.downsample, "1")


def _pairs(block: Block) -> Iterator[tuple[str, str]]:
    for number in range(1, 4 if isinstance(block, Bottleneck) else 3):
        yield f"conv{number}", f"bn{number}"


def _fold(conv_of: nn.Module, conv_name: str, norm_of: nn.Module, norm_name: str) -> None:
    conv, norm = conv_of.get_submodule(conv_name), norm_of.get_submodule(norm_name)
    assert isinstance(conv, nn.Conv2d)  # narrows the type for mypy
    if isinstance(norm, nn.GroupNorm):
        setattr(norm_of, norm_name, _Float32GroupNorm(norm))
        return
    assert isinstance(norm, FrozenBatchNorm | nn.BatchNorm2d)
    assert norm.running_mean is not None
    assert norm.running_var is not None
    scale = norm.weight.double() / (norm.running_var.double() + norm.eps).sqrt()
    shift = norm.bias.double() - norm.running_mean.double() * scale
    conv.weight = nn.Parameter((conv.weight.double() * scale[:, None, None, None]).float(), requires_grad=False)
    conv.bias = nn.Parameter(shift.float(), requires_grad=False)
    setattr(norm_of, norm_name, nn.Identity())


def _replace_convolutions(module: nn.Module) -> None:
    """Puts the convolutions of `convolutions.py` in; blocks with GroupNorm, which none of them takes in, stay."""
    for name, child in module.named_children():
        if isinstance(child, Block):
            if isinstance(child.bn1, nn.Identity):
                setattr(module, name, _Residual(child))
        elif isinstance(child, nn.Conv2d):
            setattr(module, name, fastest(child))
        else:
            _replace_convolutions(child)
