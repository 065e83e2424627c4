import pytest
import torch
from torch._inductor import config as inductor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint

from fcos_kernels.common import dispatch
from fcos_kernels.group_norm_relu import native, reference
from fcos_kernels.group_norm_relu.op import _group_norm_relu, _group_norm_relu_backward, group_norm_relu

FORMATS = [torch.contiguous_format, torch.channels_last]
GRIDS = [(9, 11), (5, 6), (1, 3), (1, 1)]
TOLERANCE = {torch.float64: 1e-12, torch.float32: 2e-5, torch.bfloat16: 1e-2, torch.float16: 2e-3}


def parts(grids=GRIDS, images=2, channels=12, dtype=torch.float32, memory_format=torch.contiguous_format, seed=0):
    rng = torch.Generator().manual_seed(seed)

    def level(grid):
        x = torch.randn(images, channels, *grid, generator=rng, dtype=torch.float64) * 3 + 1
        return x.to(dtype).contiguous(memory_format=memory_format).requires_grad_()

    statistics = torch.promote_types(dtype, torch.float32)
    weight, bias = torch.randn(2, channels, generator=rng).to(statistics).unbind()
    return [level(grid) for grid in grids], weight.clone().requires_grad_(), bias.clone().requires_grad_()


def run(inputs, weight, bias, groups=4, eps=1e-5):
    outputs = group_norm_relu(inputs, weight, bias, groups=groups, eps=eps)
    incoming = incoming_like(inputs)
    return outputs, torch.autograd.grad(outputs, [*inputs, weight, bias], incoming)


def incoming_like(inputs):
    rng = torch.Generator().manual_seed(9)
    return [torch.randn(x.shape, generator=rng, dtype=torch.float64).to(x.dtype) for x in inputs]


def exact(inputs, weight, bias, groups=4, eps=1e-5):
    incoming = [dy.double() for dy in incoming_like(inputs)]
    copies = [x.detach().double().contiguous().requires_grad_() for x in (*inputs, weight, bias)]
    outputs = reference.group_norm_relu(copies[:-2], *copies[-2:], groups, eps)
    return outputs, torch.autograd.grad(outputs, copies, incoming)


def check(inputs, weight, bias, groups=4, tolerance=None):
    tolerance = tolerance or TOLERANCE[inputs[0].dtype]
    outputs, gradients = run(inputs, weight, bias, groups)
    wanted_outputs, wanted_gradients = exact(inputs, weight, bias, groups)
    for x, y in zip(inputs, outputs, strict=True):
        assert (y.dtype, y.shape, y.stride()) == (x.dtype, x.shape, x.stride())
    for x, dx in zip((*inputs, weight, bias), gradients, strict=True):
        assert (dx.dtype, dx.shape, dx.stride()) == (x.dtype, x.shape, x.stride())
    for ours, wanted in zip((*outputs, *gradients), (*wanted_outputs, *wanted_gradients), strict=True):
        size = wanted.abs().max().clamp(min=1e-3).item()
        torch.testing.assert_close(ours.double(), wanted, rtol=tolerance, atol=tolerance * size)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", list(TOLERANCE))
def test_values_and_gradients(dtype, memory_format):
    # a group of one location has variance 0 with one channel only: here each has three
    check(*parts(dtype=dtype, memory_format=memory_format))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("channels", "groups"), [(12, 1), (12, 12), (10, 2), (256, 32)])
def test_channels_and_groups(channels, groups, dtype, memory_format):
    check(*parts([(7, 9), (3, 4)], channels=channels, dtype=dtype, memory_format=memory_format), groups)


def as_if_large(monkeypatch, chunk):
    """The ways of large tensors for small ones."""
    for limit in ("SMALL", "SMALL_IMAGE"):
        monkeypatch.setattr(native, limit, 0)
    for limit in ("CHUNK", "CONTIGUOUS_CHUNK"):
        monkeypatch.setattr(native, limit, chunk)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", list(TOLERANCE))
@pytest.mark.parametrize("chunk", [1, 200, 1 << 20])
def test_large_tensors_go_in_bands_and_chunks(chunk, dtype, memory_format, monkeypatch):
    as_if_large(monkeypatch, chunk)
    check(*parts(dtype=dtype, memory_format=memory_format))


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("mean", [3, 1000])
def test_a_mean_far_from_zero_costs_no_variance(mean, large, memory_format, monkeypatch):
    if large:
        as_if_large(monkeypatch, 200)
    inputs, weight, bias = parts([(20, 30), (9, 7)], memory_format=memory_format)
    inputs = [((x.detach() - 1) / 3 + mean).requires_grad_() for x in inputs]
    _, mean, rstd = _group_norm_relu([x.detach() for x in inputs], weight.detach(), bias.detach(), 4, 1e-5)
    grouped = [x.detach().double().reshape(2, 4, -1) for x in inputs]
    wanted = torch.stack([(x.var(2, correction=0) + 1e-5).rsqrt() for x in grouped])
    torch.testing.assert_close(rstd.double(), wanted, rtol=1e-5, atol=0)
    torch.testing.assert_close(mean.double(), torch.stack([x.mean(2) for x in grouped]), rtol=1e-6, atol=0)
    # one unit in the last place of 1000 is 6e-5 of a deviation
    check(inputs, weight, bias, tolerance=1e-3)


def test_layouts_may_differ_between_levels_and_any_strides_are_taken():
    inputs, weight, bias = parts()
    inputs[1] = inputs[1].detach().contiguous(memory_format=torch.channels_last).requires_grad_()
    check(inputs, weight, bias)
    wide = torch.randn(2, 12, 9, 22)
    sliced = wide[..., ::2].detach().requires_grad_()
    outputs, gradients = run([sliced], weight, bias)
    wanted_outputs, wanted_gradients = exact([sliced], weight, bias)
    torch.testing.assert_close(outputs[0].double(), wanted_outputs[0], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(gradients[0].double(), wanted_gradients[0], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("shape", [(0, 4), (3, 0)])
def test_nothing_in_a_level(shape, memory_format):
    inputs, weight, bias = parts([(3, 4), shape], memory_format=memory_format)
    outputs, gradients = run(inputs, weight, bias)
    assert outputs[1].shape == gradients[1].shape == inputs[1].shape
    alone = run(inputs[:1], weight, bias)
    assert torch.equal(outputs[0], alone[0][0])
    assert torch.equal(gradients[2], alone[1][1])


def test_no_images():
    inputs, weight, bias = parts(images=0)
    outputs, gradients = run(inputs, weight, bias)
    assert [y.shape for y in outputs] == [x.shape for x in inputs]
    assert not gradients[-1].any()
    assert not gradients[-2].any()


@pytest.mark.parametrize("choice", ["auto", "reference"])
@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_an_output_of_exactly_0_passes_no_gradient(dtype, memory_format, choice):
    inputs, weight, bias = parts(dtype=dtype, memory_format=memory_format)
    with torch.no_grad():
        weight[:6], bias[:6] = 0, 0
    with dispatch.using(choice):
        _, gradients = run(inputs, weight, bias)
    assert (gradients[-1][:6] == 0).all()
    assert (gradients[-2][:6] == 0).all()


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_is_not_hidden(bad, large, dtype, memory_format, monkeypatch):
    if large:
        as_if_large(monkeypatch, 200)
    inputs, weight, bias = parts(dtype=dtype, memory_format=memory_format)
    with torch.no_grad():
        inputs[0][1, 5, 2, 2] = bad
    outputs, gradients = run(inputs, weight, bias)
    assert outputs[0][1, 3:6].isnan().any()
    assert gradients[0][1, 3:6].isnan().all()
    assert all(y.isfinite().all() for y in (outputs[0][0], outputs[0][1, :3], outputs[1]))
    with torch.no_grad():
        weight[0] = float("nan")
    assert run(inputs, weight, bias)[0][1][:, 0].isnan().all()


@pytest.mark.parametrize("memory_format", FORMATS)
def test_large_and_constant_numbers(memory_format):
    inputs, weight, bias = parts(memory_format=memory_format)
    check([(x.detach() * 1e4).requires_grad_() for x in inputs], weight, bias)
    outputs, gradients = run([torch.full_like(x, 7.0).requires_grad_() for x in inputs], weight, bias)
    for y in outputs:
        torch.testing.assert_close(y, bias.relu()[:, None, None].expand_as(y), rtol=0, atol=1e-3)
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_only_some_outputs_are_used():
    inputs, weight, bias = parts()
    outputs = group_norm_relu(inputs, weight, bias, groups=4)
    gradients = torch.autograd.grad(outputs[1].sum(), [*inputs, weight])
    assert not gradients[0].any()
    assert gradients[1].any()
    alone = torch.autograd.grad(group_norm_relu(inputs[1:2], weight, bias, groups=4)[0].sum(), weight)
    torch.testing.assert_close(gradients[-1], alone[0])


def test_autocast_keeps_the_dtype_and_float32_parameters():
    inputs, weight, bias = parts(dtype=torch.bfloat16)
    plain = run(inputs, weight, bias)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = run(inputs, weight, bias)
    assert cast[0][0].dtype == torch.bfloat16
    assert cast[1][-1].dtype == torch.float32
    assert all(torch.equal(a, b) for a, b in zip((*plain[0], *plain[1]), (*cast[0], *cast[1]), strict=True))


def test_half_precision_parameters():
    inputs, weight, bias = parts(dtype=torch.bfloat16)
    check(inputs, weight.detach().bfloat16().requires_grad_(), bias.detach().bfloat16().requires_grad_())


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("choice", ["auto", "reference"])
def test_repeats_bit_for_bit(memory_format, choice):
    given = parts(dtype=torch.bfloat16, memory_format=memory_format)
    with dispatch.using(choice):
        first, second = run(*given), run(*given)
    assert all(torch.equal(a, b) for a, b in zip((*first[0], *first[1]), (*second[0], *second[1]), strict=True))


@pytest.mark.parametrize("memory_format", FORMATS)
def test_gradcheck(memory_format):
    inputs, weight, bias = parts([(3, 4), (2, 2)], channels=4, dtype=torch.float64, memory_format=memory_format)
    assert torch.autograd.gradcheck(
        lambda w, b, *xs: tuple(group_norm_relu(xs, w, b, groups=2)), (weight, bias, *inputs), fast_mode=True
    )


@pytest.mark.parametrize("memory_format", FORMATS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_plain_formula(dtype, memory_format):
    """What runs on a GPU without Triton."""
    from fcos_kernels.group_norm_relu.plain import formula_backward, formula_forward

    inputs, weight, bias = parts(dtype=dtype, memory_format=memory_format)
    wanted_outputs, wanted_gradients = exact(inputs, weight, bias)
    tolerance = {"rtol": TOLERANCE[dtype], "atol": 3 * TOLERANCE[dtype]}
    with torch.no_grad():
        for x, dy, wanted, slope in zip(inputs, incoming_like(inputs), wanted_outputs, wanted_gradients, strict=False):
            y, mean, rstd = formula_forward(x, weight, bias, 4, 1e-5)
            dx, _, _ = formula_backward(dy, x, weight, bias, mean, rstd)
            assert (y.stride(), dx.stride()) == (x.stride(), x.stride())
            torch.testing.assert_close(y.double(), wanted, **tolerance)
            torch.testing.assert_close(dx.double(), slope, **tolerance)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_opcheck(memory_format):
    inputs, weight, bias = parts(memory_format=memory_format)
    torch.library.opcheck(_group_norm_relu, (inputs, weight, bias, 4, 1e-5))
    plain = [x.detach() for x in inputs], weight.detach(), bias.detach()
    _, mean, rstd = _group_norm_relu(*plain, 4, 1e-5)
    torch.library.opcheck(_group_norm_relu_backward, (incoming_like(inputs), *plain, mean, rstd, 1e-5))


# graphs of an older op must not come from the disk
@inductor.patch(force_disable_caches=True)
@pytest.mark.parametrize("memory_format", FORMATS)
def test_compiles_whole_for_two_shapes(memory_format):
    def loss(xs, weight, bias):
        return sum((y * y).sum() for y in group_norm_relu(xs, weight, bias, groups=4))

    compiled = torch.compile(loss, fullgraph=True)
    for grids in (GRIDS[:2], [(6, 7), (3, 4)]):
        inputs, weight, bias = parts(grids, memory_format=memory_format)
        ours = torch.autograd.grad(compiled(inputs, weight, bias), [*inputs, weight, bias])
        wanted = torch.autograd.grad(loss(inputs, weight, bias), [*inputs, weight, bias])
        for a, b in zip(ours, wanted, strict=True):
            torch.testing.assert_close(a, b)
            assert a.stride() == b.stride()


def test_exports():
    class Norm(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.norm = torch.nn.GroupNorm(4, 12)

        def forward(self, xs):
            return group_norm_relu(xs, self.norm.weight, self.norm.bias, groups=4)

    inputs, _, _ = parts(memory_format=torch.channels_last)
    xs, module = [x.detach() for x in inputs], Norm()
    exported = torch.export.export(module, (xs,))
    assert any("group_norm_relu" in str(node.target) for node in exported.graph.nodes)
    for ours, wanted in zip(exported.module()(xs), module(xs), strict=True):
        assert torch.equal(ours, wanted)


@pytest.mark.parametrize("memory_format", FORMATS)
def test_fake_on_cuda(memory_format):
    # without gradients: autograd asks the device for its stream, and there may be none
    with FakeTensorMode(), torch.no_grad():
        xs = [
            torch.empty(2, 12, *grid, dtype=torch.bfloat16, device="cuda").to(memory_format=memory_format)
            for grid in GRIDS
        ]
        weight, bias = (torch.empty(12, device="cuda") for _ in range(2))
        outputs, mean, rstd = _group_norm_relu(xs, weight, bias, 4, 1e-5)
        assert [(y.device, y.dtype, y.stride()) for y in outputs] == [(x.device, x.dtype, x.stride()) for x in xs]
        assert (mean.dtype, rstd.shape) == (torch.float32, (len(GRIDS), 2, 4))
        gradients, by_weight, _ = _group_norm_relu_backward(outputs, xs, weight, bias, mean, rstd, 1e-5)
        assert [dx.stride() for dx in gradients] == [x.stride() for x in xs]
        assert by_weight.dtype == torch.float32


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        ({"inputs": []}, ValueError, "inputs must have at least one level"),
        ({"inputs": [torch.ones(2, 12, 3)]}, ValueError, r"inputs\[0\] must have shape"),
        ({"inputs": [torch.ones(2, 12, 3, 3).long()]}, TypeError, r"inputs\[0\] must be float32"),
        (
            {"inputs": [torch.ones(2, 12, 3, 3), torch.ones(1, 12, 3, 3)]},
            ValueError,
            r"inputs\[1\] must have shape \[2",
        ),
        (
            {"inputs": [torch.ones(2, 12, 3, 3), torch.ones(2, 12, 3, 3).half()]},
            TypeError,
            r"inputs\[1\] must be float",
        ),
        (
            {"inputs": [torch.ones(2, 12, 3, 3), torch.ones(2, 12, 3, 3, device="meta")]},
            ValueError,
            r"inputs\[1\].* on",
        ),
        ({"weight": torch.ones(6)}, ValueError, r"weight must have shape \[12\]"),
        ({"bias": torch.ones(12, 1)}, ValueError, r"bias must have shape \[12\]"),
        ({"bias": torch.ones(12, device="meta")}, ValueError, "bias must be on cpu"),
        ({"groups": 5}, ValueError, "groups must divide the 12 channels"),
        ({"groups": 0}, ValueError, "groups must be above 0"),
        ({"groups": 4.0}, TypeError, "groups must be whole numbers"),
        ({"eps": float("inf")}, ValueError, "eps must be finite"),
        ({"eps": "small"}, TypeError, "eps must be a number"),
        ({"inputs": torch.ones(2, 12, 3, 3)}, TypeError, "inputs must be a list"),
        ({"eps": 0.0}, ValueError, "eps must be above 0"),
    ],
)
def test_bad_arguments_are_named(change, error, words):
    usual = {"inputs": [torch.ones(2, 12, 3, 3)], "weight": torch.ones(12), "bias": torch.ones(12), "groups": 4}
    arguments = {**usual, **change}
    with pytest.raises(error, match=words):
        group_norm_relu(arguments.pop("inputs"), arguments.pop("weight"), arguments.pop("bias"), **arguments)


def test_under_checkpointing():
    x = torch.randn(2, 8, 3, 4, generator=torch.Generator().manual_seed(7)).requires_grad_()

    def work(x):
        return group_norm_relu([x], torch.ones(8), torch.zeros(8), groups=4)[0].square().sum()

    (wanted,) = torch.autograd.grad(work(x), x)
    checkpoint(work, x, use_reentrant=False).backward()
    assert torch.equal(x.grad, wanted)
