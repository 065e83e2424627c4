"""GroupNorm and ReLU of one level on the CPU, out of PyTorch's fastest parts; the formula stands in `op.py`.

native_group_norm and its backward do most of it. Where they would not do well:

- Channels-last, their variance is E[x^2] - E[x]^2: where the mean is large beside the deviation, a contiguous copy is
  normalised, whose variance they find in two passes.
- Channels-last, their half-precision kernels are slow on small images: contiguous copies again.
- Channels-last, their backward is slow on large images (half-precision ten times): BatchNorm's kernels find the sums of
  each channel, and what is elementwise runs band by band in the caches.
"""

import math
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten

CHUNK = 1 << 20
"""Elements of a band of rows; a few buffers of this size fit the caches."""
CONTIGUOUS_CHUNK = 1 << 22
"""Contiguous gradients up to this size need no copy, larger ones are made group by group."""
SMALL_IMAGE = 1 << 17
"""Elements of an image up to which channels-last tensors are not worth bands."""
SMALL = 1 << 18
"""Elements of a contiguous tensor up to which another normalisation costs less than a few calls more."""
CANCELS = 2.0
"""Mean in deviations from where E[x^2] - E[x]^2 is not trusted: it loses a factor 5 of float32's precision there."""


def forward(x: Tensor, weight: Tensor, bias: Tensor, groups: int, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """Output like `x`, mean and rstd [N, G].

    Args:
        x: [N, C, H, W], not empty, contiguous or channels-last.
        weight, bias: [C], in the dtype of the statistics.
    """
    images, channels, rows, columns = x.shape
    sizes = images, channels, rows * columns, groups
    if not x.is_contiguous():
        if not _copied(x):
            out, mean, rstd = torch.native_group_norm(x, weight, bias, *sizes, eps)
            if not _cancels(mean, rstd):
                _rectify(out, mean, rstd, weight, bias)
                return out, mean, rstd
        out, mean, rstd = forward(x.contiguous(), weight, bias, groups, eps)
        return out.contiguous(memory_format=torch.channels_last), mean, rstd
    out, mean, rstd = torch.native_group_norm(x, weight, bias, *sizes, eps)
    _rectify(out, mean, rstd, weight, bias)
    return out, mean, rstd


def backward(
    incoming: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Gradients of x, weight and bias; `incoming` is laid out as `x` is."""
    statistics = weight, bias, mean, rstd
    if x.is_contiguous():
        if x.numel() <= SMALL:
            return _normalised_again(incoming, x, *statistics, eps)
        return _contiguous_backward(incoming, x, *statistics)
    if x[0].numel() > SMALL_IMAGE:
        return _banded_backward(incoming, x, *statistics)
    if not _copied(x):
        return _small_backward(incoming, x, *statistics)
    dx, for_weight, for_bias = backward(incoming.contiguous(), x.contiguous(), *statistics, eps)
    return dx.contiguous(memory_format=torch.channels_last), for_weight, for_bias


def affine(weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor) -> tuple[Tensor, Tensor]:
    """scale, shift [N, C] with output = max(scale x + shift, 0)."""
    images, groups = mean.shape
    scale = rstd[:, :, None] * weight.view(groups, -1)
    shift = torch.addcmul(bias.view(groups, -1), mean[:, :, None], scale, value=-1)
    return scale.view(images, -1), shift.view(images, -1)


def input_slopes(
    by_weight: Tensor, by_bias: Tensor, weight: Tensor, mean: Tensor, rstd: Tensor, size: int
) -> tuple[Tensor, Tensor]:
    """slope, offset [N, C] with dx = scale dy' + slope x + offset, from sums [N, C] over the locations.

    Args:
        by_weight, by_bias: sums of dy' xhat and of dy'.
        size: elements of an image; G groups share them.
    """
    images, channels = by_weight.shape
    groups = mean.shape[1]
    along, across = ((sums * weight).view(images, groups, -1).sum(2) / (size / groups) for sums in (by_weight, by_bias))
    slope = -along * rstd.square()
    return each_channel(slope, channels), each_channel(-across * rstd - slope * mean, channels)


def each_channel(values: Tensor, channels: int) -> Tensor:
    """[N, G] -> [N, C]."""
    images, groups = values.shape
    return values[:, :, None].expand(images, groups, channels // groups).reshape(images, channels)


def _copied(x: Tensor) -> bool:
    """Whether a channels-last tensor is better copied."""
    return x.element_size() == 2 and x[0].numel() <= SMALL_IMAGE


def _cancels(mean: Tensor, rstd: Tensor) -> bool:
    return not (mean * rstd).abs_().amax().item() <= CANCELS


def _normalised_again(
    incoming: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor, eps: float
) -> tuple[Tensor, Tensor, Tensor]:
    images, channels, rows, columns = x.shape
    sizes = images, channels, rows * columns, mean.shape[1]
    out, _, _ = torch.native_group_norm(x, weight, bias, *sizes, eps)
    passed = _pass_where_positive(incoming, out, out)
    return _native_backward(passed, x, mean, rstd, weight)


def _small_backward(
    incoming: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of channels-last tensors in the dtype of the statistics."""
    scale, shift = affine(weight, bias, mean, rstd)
    out = torch.empty_like(x)
    torch.addcmul(shift[:, None, None], x.permute(0, 2, 3, 1), scale[:, None, None], out=out.permute(0, 2, 3, 1))
    return _native_backward(_pass_where_positive(incoming, out, out), x, mean, rstd, weight)


def _native_backward(
    passed: Tensor, x: Tensor, mean: Tensor, rstd: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    images, channels, rows, columns = x.shape
    sizes = images, channels, rows * columns, mean.shape[1]
    gradients: tuple[Tensor, Tensor, Tensor] = aten.native_group_norm_backward(
        passed, x, mean, rstd, weight, *sizes, [True, True, True]
    )
    return gradients


def _banded_backward(
    incoming: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Of channels-last tensors."""
    scale, shift = affine(weight, bias, mean, rstd)
    channels = x.shape[1]
    means, rstds = (each_channel(values, channels).unbind() for values in (mean, rstd))
    grad_x = torch.empty_like(x)
    by_weight, by_bias = torch.zeros_like(scale), torch.zeros_like(scale)
    scale_and_shift = _ScaleAndShift(scale, shift)
    bands = list(_bands(x, incoming, grad_x))
    scratch = torch.empty_like(bands[0][1])
    for image, band, grad, passed in bands:
        out = scratch[:, :, : band.shape[2]]
        scale_and_shift(image, band, out)
        _pass_where_positive(grad, out, passed)
        _, products, sums = aten.native_batch_norm_backward(
            passed, band, weight, None, None, means[image], rstds[image], True, 0.0, [False, True, True]
        )
        by_weight[image] += products
        by_bias[image] += sums

    slope, offset = input_slopes(by_weight, by_bias, weight, mean, rstd, x[0].numel())
    wide = torch.empty(2, *_lines(scratch).shape, dtype=weight.dtype)
    for image, band, _, passed in bands:
        _input_gradient(band, passed, slope[image], offset[image], scale[image], wide)
    return grad_x, by_weight.sum(0), by_bias.sum(0)


def _contiguous_backward(
    incoming: Tensor, x: Tensor, weight: Tensor, bias: Tensor, mean: Tensor, rstd: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    scale, shift = affine(weight, bias, mean, rstd)
    images, channels = x.shape[:2]
    groups = mean.shape[1]
    at_once = max(1, CONTIGUOUS_CHUNK * groups // x[0].numel())
    if at_once >= images * groups:
        return _native_backward(_passed(incoming, x, scale, shift), x, mean, rstd, weight)
    grad_x, per_group = torch.empty_like(x), channels // groups
    by_weight, by_bias = torch.zeros_like(weight), torch.zeros_like(weight)
    for image in range(images):
        for first in range(0, groups, at_once):
            here = slice(first, min(first + at_once, groups))
            parts = slice(here.start * per_group, here.stop * per_group)
            some = x[image : image + 1, parts]
            passed = _passed(incoming[image : image + 1, parts], some, scale[image, parts], shift[image, parts])
            means, rstds = (values[image : image + 1, here].contiguous() for values in (mean, rstd))
            grad_x[image, parts], for_weight, for_bias = _native_backward(passed, some, means, rstds, weight[parts])
            by_weight[parts] += for_weight
            by_bias[parts] += for_bias
    return grad_x, by_weight, by_bias


def _passed(incoming: Tensor, x: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """What the ReLU lets through of a contiguous gradient."""
    out = torch.empty_like(x)
    flat = (1, scale.numel(), *x.shape[2:])
    scale, shift, unused = scale.reshape(-1), shift.reshape(-1), scale.new_empty(0)
    statistics = torch.zeros_like(scale), torch.ones_like(scale)
    torch.native_batch_norm(
        x.view(flat), scale, shift, *statistics, False, 0.0, 0.0, out=(out.view(flat), unused, unused)
    )
    return _pass_where_positive(incoming, out, out)


class _ScaleAndShift:
    """scale x + shift for each channel of a channels-last [1, C, h, W], rounded once, into `out`."""

    def __init__(self, scale: Tensor, shift: Tensor) -> None:
        self.scale, self.shift = scale.unbind(), shift.unbind()
        self.zero, self.one, self.unused = torch.zeros_like(scale[0]), torch.ones_like(scale[0]), scale.new_empty(0)

    def __call__(self, image: int, x: Tensor, out: Tensor) -> None:
        scale, shift = self.scale[image], self.shift[image]
        if x.dtype == scale.dtype:
            torch.addcmul(shift, _lines(x), scale, out=_lines(out))
        else:
            unused = self.unused
            torch.native_batch_norm(x, scale, shift, self.zero, self.one, False, 0.0, 0.0, out=(out, unused, unused))


def _rectify(out: Tensor, *made_with: Tensor) -> None:
    """ReLU in place. Half-precision numbers order as integers by their sign, but for NaN: only where there is none."""
    if out.element_size() == 2 and all(math.isfinite(values.sum().item()) for values in made_with):
        out.view(torch.int16).clamp_min_(0)
    else:
        out.relu_()


def _pass_where_positive(grad: Tensor, out: Tensor, into: Tensor) -> Tensor:
    """`grad` where `out` is above 0, else 0, into `into`."""
    if out.element_size() == 2:
        # a half-precision number is above 0 exactly where its bits are
        bits = (tensor.view(torch.int16) for tensor in (grad, out, into))
    else:
        bits = (tensor for tensor in (grad, out, into))
    source, positive, target = bits
    aten.threshold_backward.grad_input(source, positive, 0, grad_input=target)
    return into


def _input_gradient(x: Tensor, passed: Tensor, slope: Tensor, offset: Tensor, scale: Tensor, wide: Tensor) -> None:
    """scale passed + slope x + offset, in place of `passed`; `wide` is scratch [2, elements]."""
    x, passed = _lines(x), _lines(passed)
    total, copy = wide[:, : len(x)]
    if x.dtype == wide.dtype:
        torch.addcmul(offset, x, slope, out=total)
        torch.addcmul(total, passed, scale, out=passed)
    else:
        torch.addcmul(offset, total.copy_(x), slope, out=total)
        passed.copy_(total.addcmul_(copy.copy_(passed), scale))


def _bands(x: Tensor, *others: Tensor) -> Iterator[tuple[Any, ...]]:
    """(image, band of rows [1, C, h, W] of x, that of each other tensor) of channels-last tensors."""
    rows = max(1, CHUNK // (x.shape[1] * x.shape[3]))
    parts = [[image.split(rows, dim=2) for image in tensor.split(1)] for tensor in (x, *others)]
    for image, bands in enumerate(zip(*parts, strict=True)):
        for band in zip(*bands, strict=True):
            yield image, *band


def _lines(band: Tensor) -> Tensor:
    """Channels-last [1, C, h, W] -> [h W, C], without a copy."""
    return band.permute(0, 2, 3, 1).view(-1, band.shape[1])
