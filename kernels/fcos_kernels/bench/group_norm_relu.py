"""The cases of `group_norm_relu`: one layer of a tower, forward and backward. Rivals: eager and compiled."""

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from fcos_kernels.bench import eager, problems
from fcos_kernels.bench.case import Case
from fcos_kernels.bench.problems import CHANNELS, GROUPS, Size, dtype_name, layout_name
from fcos_kernels.bench.timing import Work
from fcos_kernels.group_norm_relu import group_norm_relu


def cases(device: torch.device, with_compile: bool) -> Iterator[Case]:
    """GroupNorm and ReLU of one layer of a tower, forward and backward."""
    for size in problems.sizes(device)[:2]:
        for dtype in (torch.bfloat16, torch.float32):
            for layout in (torch.channels_last, torch.contiguous_format):
                rng = torch.Generator().manual_seed(2)
                inputs = [
                    torch.randn(size.images, CHANNELS, *grid, generator=rng)
                    .to(device, dtype)
                    .contiguous(memory_format=layout)
                    .requires_grad_()
                    for grid in size.grids
                ]
                incoming = [torch.randn_like(x) for x in inputs]
                weight = (torch.rand(CHANNELS, generator=rng) + 0.5).to(device).requires_grad_()
                bias = torch.randn(CHANNELS, generator=rng).to(device).requires_grad_()
                yield _norm_case(size, inputs, incoming, (weight, bias), with_compile)


def _norm_case(
    size: Size,
    inputs: list[Tensor],
    incoming: list[Tensor],
    affine: tuple[Tensor, Tensor],
    with_compile: bool,
) -> Case:
    def run(
        function: Callable[..., list[Tensor]], xs: list[Tensor] = inputs, slopes: list[Tensor] = incoming
    ) -> tuple[list[Tensor], tuple[Tensor, ...]]:
        outputs = function(xs, *affine, groups=GROUPS)
        return outputs, torch.autograd.grad(outputs, [*xs, *affine], slopes)

    rivals: dict[str, Work] = {"eager": lambda: run(eager.group_norm_relu)}
    if with_compile:
        compiled = torch.compile(eager.group_norm_relu)
        rivals["compiled"] = lambda: run(compiled)

    def compare() -> None:
        # eager in bfloat16 is off by 5e-3 itself
        exact = [x.detach().float().requires_grad_() for x in inputs]
        wanted = run(eager.group_norm_relu, exact, [x.float() for x in incoming])
        for mine, other in zip(_flat(run(group_norm_relu)), _flat(wanted), strict=True):
            scale = float(other.detach().abs().max()) or 1.0
            gap = float((mine.detach().float() - other.detach()).abs().mean()) / scale
            assert gap < (1e-5 if inputs[0].dtype == torch.float32 else 5e-3), (
                f"mean difference {gap:.2g} of {scale:.3g}"
            )

    moved = sum(x.numel() * x.element_size() for x in inputs)
    layout = torch.contiguous_format if all(x.is_contiguous() for x in inputs) else torch.channels_last
    name = f"{size}, {dtype_name(inputs[0].dtype)} {layout_name(layout)}"
    # forward: x twice, y once; backward: x and dy twice, dx once
    return Case("group_norm_relu", name, 8 * moved, lambda: run(group_norm_relu), compare, rivals)


def _flat(result: tuple[list[Tensor], tuple[Tensor, ...]]) -> list[Tensor]:
    return [*result[0], *result[1]]
