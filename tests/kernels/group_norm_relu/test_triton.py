"""Triton kernels of GroupNorm + ReLU against float64; compiled where there is a GPU, else in Triton's interpreter."""

import pytest
import torch

pytest.importorskip("triton")

from fcos_kernels.common import dispatch
from fcos_kernels.group_norm_relu import group_norm_relu, reference
from fcos_kernels.group_norm_relu import launch as kernel

FORMATS = [torch.contiguous_format, torch.channels_last]
TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 8e-3, torch.float16: 1e-3}


@pytest.fixture
def device():
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(autouse=True)
def poisoned():
    """Every buffer that torch.empty makes starts as NaN."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    yield
    torch.use_deterministic_algorithms(before)


def parts(grids, device, dtype=torch.float32, memory_format=torch.contiguous_format, channels=16, images=2, seed=0):
    rng = torch.Generator().manual_seed(seed)

    def level(grid, scale=1.0, shift=0.0):
        x = torch.randn(images, channels, *grid, generator=rng) * scale + shift
        return x.to(device, dtype).contiguous(memory_format=memory_format)

    inputs, incoming = [level(grid, 3, 1) for grid in grids], [level(grid) for grid in grids]
    weight, bias = (torch.randn(channels, generator=rng).to(device) for _ in range(2))
    return inputs, incoming, weight, bias


def run(inputs, incoming, weight, bias, groups):
    last = not all(x.is_contiguous() for x in inputs)
    outputs, mean, rstd = kernel.forward(inputs, weight, bias, groups, 1e-5, last)
    gradients, by_weight, by_bias = kernel.backward(incoming, inputs, weight, bias, mean, rstd, last)
    return outputs, mean, rstd, gradients, by_weight, by_bias


def exact(inputs, incoming, weight, bias, groups):
    copies = [x.double().contiguous().requires_grad_() for x in (*inputs, weight, bias)]
    outputs = reference.group_norm_relu(copies[:-2], *copies[-2:], groups)
    return outputs, torch.autograd.grad(outputs, copies, [dy.double() for dy in incoming])


def check(given, groups, tolerance=None):
    inputs = given[0]
    tolerance = tolerance or TOLERANCE[inputs[0].dtype]
    outputs, mean, rstd, gradients, by_weight, by_bias = run(*given, groups)
    wanted_outputs, wanted = exact(*given, groups)
    for x, *made in zip(inputs, outputs, gradients, strict=True):
        assert all((t.dtype, t.shape, t.stride()) == (x.dtype, x.shape, x.stride()) for t in made)
    assert by_weight.dtype == by_bias.dtype == mean.dtype == torch.float32
    for level, x in enumerate(inputs):
        grouped = x.double().reshape(x.shape[0], groups, -1)
        close(mean[level], grouped.mean(2), 1e-5)
        close(rstd[level], (grouped.var(2, correction=0) + 1e-5).rsqrt(), 1e-5)
    for ours, right in zip((*outputs, *gradients), (*wanted_outputs, *wanted[:-2]), strict=True):
        close(ours, right, tolerance)
    # sums of float32 terms, whatever the inputs are
    close(by_weight, wanted[-2], max(1e-5, tolerance * 1e-2))
    close(by_bias, wanted[-1], max(1e-5, tolerance * 1e-2))


def close(ours, wanted, tolerance):
    size = wanted.abs().max().clamp(min=1e-3).item() if wanted.numel() else 0.0
    torch.testing.assert_close(ours.double(), wanted, rtol=tolerance, atol=tolerance * size)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_values_and_gradients(dtype, memory_format, device):
    # the first level's channels start at multiples of 8 elements, the others' do not
    check(parts([(8, 9), (5, 7), (1, 1)], device, dtype, memory_format), 4)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize(("channels", "groups"), [(6, 2), (12, 4), (5, 5), (8, 1)])
def test_channels_that_are_no_power_of_two(channels, groups, memory_format, device):
    # of one location and one channel the exact xhat is 0: too few to compare gradients by
    check(parts([(3, 5), (2, 2)], device, memory_format=memory_format, channels=channels), groups)


def small_blocks(monkeypatch, memory_format, size=4):
    """Blocks of a few locations, so that small images have many."""
    monkeypatch.setattr(kernel, "LAST_BYTES", 16 * 8 * size)
    monkeypatch.setattr(kernel, "CONTIGUOUS_BYTES", 32 * size)
    monkeypatch.setattr(kernel, "MERGED_AT_ONCE", 8)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("shape", [(16, 5), (7, 9)])
def test_many_blocks_an_image(shape, memory_format, device, monkeypatch):
    small_blocks(monkeypatch, memory_format)
    channels = 16 if memory_format == torch.channels_last else 4
    check(parts([shape, (3, 3)], device, memory_format=memory_format, channels=channels), 2)


def test_sizes_that_cannot_be_counted_go_to_plain_code(monkeypatch):
    x = torch.ones(2, 8, 3, 4)
    assert kernel.supports([x])
    assert not kernel.supports([x.double()])
    assert not kernel.supports([x[:0], x[:, :0]])
    monkeypatch.setattr(kernel, "EXACT", 24)
    assert not kernel.supports([x])


@pytest.mark.parametrize("memory_format", FORMATS)
def test_a_mean_far_from_zero_costs_no_variance(memory_format, device, monkeypatch):
    small_blocks(monkeypatch, memory_format)
    channels = 16 if memory_format == torch.channels_last else 2
    inputs, _, weight, bias = parts([(12, 13)], device, memory_format=memory_format, channels=channels)
    inputs = [(x - 1) / 3 + 1000 for x in inputs]
    _, mean, rstd = kernel.forward(inputs, weight, bias, 2, 1e-5, memory_format == torch.channels_last)
    grouped = inputs[0].double().reshape(2, 2, -1)
    close(mean[0], grouped.mean(2), 1e-6)
    close(rstd[0], (grouped.var(2, correction=0) + 1e-5).rsqrt(), 1e-5)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_an_outlier_first(memory_format, device):
    """A shift by the first element would cancel here."""
    given = parts([(8, 8)], device, memory_format=memory_format, channels=4)
    given[0][0][:, :, 0, 0] = 1e4
    check(given, 2, tolerance=1e-4)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_repeats_bit_for_bit(memory_format, device):
    given = parts([(6, 7), (3, 2)], device, torch.bfloat16, memory_format, channels=8)
    first, second = run(*given, 2), run(*given, 2)
    for a, b in zip(first, second, strict=True):
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_an_output_of_exactly_0_passes_no_gradient(dtype, memory_format, device):
    inputs, incoming, weight, bias = parts([(3, 4)], device, dtype, memory_format, channels=8)
    weight[:4], bias[:4] = 0, 0
    if dtype == torch.float16:
        bias[:4] = 1e-9  # above 0, but not as a float16
    *_, by_weight, by_bias = run(inputs, incoming, weight, bias, 2)
    assert not by_weight[:4].any()
    assert not by_bias[:4].any()
    assert by_bias[4:].any()


@pytest.mark.parametrize("memory_format", FORMATS)
def test_nan_is_not_hidden_and_stays_in_its_group(memory_format, device):
    given = parts([(3, 4), (2, 2)], device, memory_format=memory_format, channels=8)
    given[0][0][1, 5, 2, 2] = float("nan")
    outputs, _, _, gradients, *_ = run(*given, 2)
    for made in (outputs, gradients):
        assert made[0][1, 4:].isnan().all()
        assert all(part.isfinite().all() for part in (made[0][0], made[0][1, :4], made[1]))


@pytest.mark.parametrize("memory_format", FORMATS)
def test_extremes_and_constants(memory_format, device):
    inputs, incoming, weight, bias = parts([(4, 4)], device, memory_format=memory_format, channels=4)
    check(([x * 1e4 for x in inputs], incoming, weight, bias), 2)
    outputs, _, _, gradients, *_ = run([torch.full_like(x, 7.0) for x in inputs], incoming, weight, bias, 2)
    assert torch.equal(outputs[0], bias.relu()[:, None, None].expand_as(outputs[0]))
    assert gradients[0].isfinite().all()


@pytest.mark.parametrize("memory_format", FORMATS)
def test_empty_levels_between_others(memory_format, device):
    grids = [(3, 4), (0, 5), (2, 3), (4, 0)]
    given = parts(grids, device, memory_format=memory_format, channels=4)
    outputs, _, _, gradients, by_weight, by_bias = run(*given, 2)
    some = [[tensors[level] for level in (0, 2)] for tensors in given[:2]]
    alone = run(*some, *given[2:], 2)
    assert all(torch.equal(a, b) for a, b in zip((outputs[0], outputs[2]), alone[0], strict=True))
    assert all(torch.equal(a, b) for a, b in zip((gradients[0], gradients[2]), alone[3], strict=True))
    assert torch.equal(by_weight, alone[4])
    assert torch.equal(by_bias, alone[5])
    assert outputs[1].shape == gradients[1].shape == (2, 4, 0, 5)


def test_weight_and_bias_in_half_precision(device):
    inputs, incoming, weight, bias = parts([(3, 4)], device, torch.bfloat16, channels=4)
    check((inputs, incoming, weight.bfloat16(), bias.bfloat16()), 2)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_the_op_runs_them(memory_format, device):
    inputs, incoming, weight, bias = parts([(3, 4), (1, 2)], device, memory_format=memory_format, channels=8)
    leaves = [x.requires_grad_() for x in (*inputs, weight, bias)]
    with dispatch.using("triton"):
        outputs = group_norm_relu(inputs, weight, bias, groups=2)
        gradients = torch.autograd.grad(outputs, leaves, incoming)
    wanted_outputs, wanted = exact([x.detach() for x in inputs], incoming, weight.detach(), bias.detach(), 2)
    for ours, right in zip((*outputs, *gradients), (*wanted_outputs, *wanted), strict=True):
        close(ours, right, 1e-5)
