"""Launchers of the Triton kernels of GroupNorm + ReLU: all levels of a layer at once.

The kernels are in triton_forward.py and triton_backward.py: three launches each.
"""

from collections.abc import Sequence
from itertools import accumulate
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor

from fcos_kernels.common.levels import EXACT, floats
from fcos_kernels.common.variants import Variant
from fcos_kernels.group_norm_relu.triton_backward import (
    _group_norm_relu_bwd_kernel,
    _group_norm_relu_coefficients_kernel,
    _group_norm_relu_sums_kernel,
)
from fcos_kernels.group_norm_relu.triton_forward import (
    _group_norm_relu_fwd_kernel,
    _group_norm_relu_merge_kernel,
    _group_norm_relu_stats_kernel,
)

LAST_BYTES, CONTIGUOUS_BYTES = 16384, 8192
"""What a program reads at once: channels-last of all tensors together, contiguous of each."""
TILES = 4
"""Tiles of a channels-last block whose statistics one program finds."""
MERGED_AT_ONCE = 512
"""Partial results a merging program holds."""
WARPS = 4
FEW_WARPS = "four programs an SM have 32 KB or more on their way; 3 TB/s at 0.8 us ask for 18"
FEW_MERGING_WARPS = (
    "programs of one warp, of which an SM has no more than 32, and 512 partial results on their way in each"
)


Levels = tuple[tuple[float, ...], ...]


def supports(inputs: Sequence[Tensor]) -> bool:
    """Whether the kernels take these: no float64, at least one not empty, sizes that can be counted."""
    countable = sum(len(x) * x.shape[2] * x.shape[3] for x in inputs) < EXACT
    return countable and inputs[0].dtype != torch.float64 and any(x.numel() for x in inputs)


class _Plan(NamedTuple):
    """Sizes of a launch over levels of one layout and dtype."""

    channels: int
    groups: int
    images: int
    last: bool
    run: int
    tiles: int
    locations: tuple[int, ...]

    @staticmethod
    def of(inputs: Sequence[Tensor], groups: int, last: bool, reads: int) -> "_Plan":
        images, channels = inputs[0].shape[:2]
        run, tiles = _run_and_tiles(channels, inputs[0].element_size(), last, reads)
        return _Plan(channels, groups, images, last, run, tiles, tuple(int(x.shape[2] * x.shape[3]) for x in inputs))

    @property
    def layout(self) -> dict[str, int | bool]:
        return {
            "LEVELS": len(self.locations),
            "C": self.channels,
            "LAST": self.last,
            "RUN": self.run,
            "BLOCK_C": triton.next_power_of_2(self.channels),
        }

    @property
    def merging(self) -> dict[str, int]:
        block = int(triton.next_power_of_2(self.channels // self.groups))
        chunk = max(1, MERGED_AT_ONCE // block)
        return {
            "LEVELS": len(self.locations),
            "C": self.channels,
            "G": self.groups,
            "CHUNK": chunk,
            "BLOCK_CG": block,
        }

    @property
    def rows(self) -> int:
        return len(self.locations) * self.images

    def levels(self, per_block: int) -> tuple[int, Levels]:
        """How many blocks there are; of each level the number of its first, and blocks and locations of an image."""
        per_image = [triton.cdiv(size, per_block) for size in self.locations]
        *first, blocks = accumulate((own * self.images for own in per_image), initial=0)
        return blocks, floats(first, per_image, self.locations)

    def grid(self, blocks: int) -> tuple[int, ...]:
        return (blocks,) if self.last else (blocks, self.channels)


def forward(
    inputs: Sequence[Tensor], weight: Tensor, bias: Tensor, groups: int, eps: float, last: bool
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Outputs, mean and rstd float32 [levels, N, G].

    Args:
        inputs: per level [N, C, H, W], all channels-last if `last`, else all contiguous; at least one is not empty.
    """
    plan = _Plan.of(inputs, groups, last, reads=1)
    device = inputs[0].device
    outputs = [torch.empty_like(x) for x in inputs]
    mean, rstd = (torch.empty(len(inputs), plan.images, groups, dtype=torch.float32, device=device) for _ in range(2))
    per_block = plan.run * plan.tiles
    blocks, levels = plan.levels(per_block)
    partial_mean, partial_m2 = torch.empty(2, blocks, plan.channels, dtype=torch.float32, device=device).unbind()
    xs = tuple(inputs)
    _group_norm_relu_stats_kernel[plan.grid(blocks)](
        xs, levels, partial_mean, partial_m2, TILES=plan.tiles, **plan.layout, num_warps=WARPS
    )
    _group_norm_relu_merge_kernel[(plan.rows, groups)](
        levels,
        partial_mean,
        partial_m2,
        mean,
        rstd,
        plan.images,
        eps,
        PER_BLOCK=per_block,
        **plan.merging,
        num_warps=1,
    )
    blocks, levels = plan.levels(plan.run)
    _group_norm_relu_fwd_kernel[plan.grid(blocks)](
        xs, tuple(outputs), levels, mean, rstd, weight, bias, plan.images, G=groups, **plan.layout, num_warps=WARPS
    )
    return outputs, mean, rstd


def backward(
    incoming: Sequence[Tensor],
    inputs: Sequence[Tensor],
    weight: Tensor,
    bias: Tensor,
    mean: Tensor,
    rstd: Tensor,
    last: bool,
) -> tuple[list[Tensor], Tensor, Tensor]:
    """Gradients of the inputs, of weight and of bias (float32); `incoming` are laid out as the inputs are."""
    groups = mean.shape[2]
    plan = _Plan.of(inputs, groups, last, reads=2)
    device = inputs[0].device
    gradients = [torch.empty_like(x) for x in inputs]
    by_bias, by_weight = torch.empty(2, plan.rows, plan.channels, dtype=torch.float32, device=device).unbind()
    across, along = torch.empty(2, plan.rows, groups, dtype=torch.float32, device=device).unbind()
    blocks, levels = plan.levels(plan.run * plan.tiles)
    partial, partial_xhat = torch.empty(2, blocks, plan.channels, dtype=torch.float32, device=device).unbind()
    xs, dys, statistics = tuple(inputs), tuple(incoming), (mean, rstd, weight, bias)
    _group_norm_relu_sums_kernel[plan.grid(blocks)](
        xs,
        dys,
        levels,
        *statistics,
        partial,
        partial_xhat,
        plan.images,
        G=groups,
        TILES=plan.tiles,
        **plan.layout,
        num_warps=WARPS,
    )
    _group_norm_relu_coefficients_kernel[(plan.rows, groups)](
        levels,
        partial,
        partial_xhat,
        weight,
        by_bias,
        by_weight,
        across,
        along,
        plan.images,
        **plan.merging,
        num_warps=1,
    )
    blocks, levels = plan.levels(plan.run)
    _group_norm_relu_bwd_kernel[plan.grid(blocks)](
        xs,
        dys,
        tuple(gradients),
        levels,
        *statistics,
        across,
        along,
        plan.images,
        G=groups,
        **plan.layout,
        num_warps=WARPS,
    )
    return gradients, by_weight.sum(0), by_bias.sum(0)


def _run_and_tiles(channels: int, element_size: int, last: bool, reads: int) -> tuple[int, int]:
    """Locations of a tile, and tiles of a block, for kernels that read 1 or 2 tensors."""
    if last:
        elements = LAST_BYTES // (element_size * reads)
        return max(1, elements // int(triton.next_power_of_2(channels))), TILES * reads
    return CONTIGUOUS_BYTES // element_size, 1


def variants() -> list[Variant]:
    """The kernels as a tower of 256 channels in 32 groups over five levels launches them."""
    return [
        variant
        for dtype, kind, size in (("float32", "*fp32", 4), ("bfloat16", "*bf16", 2), ("float16", "*fp16", 2))
        for last in (True, False)
        for variant in _variants(dtype, kind, size, last)
    ]


def _variants(dtype: str, kind: str, element_size: int, last: bool) -> list[Variant]:
    levels, channels, groups = 5, 256, 32
    forward_plan, plan = (
        _Plan(channels, groups, 16, last, *_run_and_tiles(channels, element_size, last, reads), (0,) * levels)
        for reads in (1, 2)
    )
    layout = "channels-last" if last else "contiguous"
    maps, numbers, partial = (kind,) * levels, {"images": "i32"}, ("p_partial", "p_partial_xhat")
    statistics = {"p_mean": "*fp32", "p_rstd": "*fp32", "p_weight": "*fp32", "p_bias": "*fp32"}
    table = {"levels": (("fp32",) * levels,) * 3}

    def variant(kernel: Any, arguments: dict[str, Any], constants: dict[str, Any], elementwise: bool) -> Variant:
        types = {**arguments, **dict.fromkeys(constants, "constexpr")}
        signature = {name: types[name] for name in kernel.arg_names}
        aligned = tuple(name for name in arguments if name.startswith("p_"))
        maps_read = tuple(name for name in ("p_xs", "p_dys") if name in arguments)
        warps, reason = (WARPS, FEW_WARPS) if elementwise else (1, FEW_MERGING_WARPS)
        return Variant(kernel, layout, dtype, signature, constants, aligned, warps, maps_read, few_warps=reason)

    variants = [
        variant(
            _group_norm_relu_stats_kernel,
            {"p_xs": maps, **table, "p_partial_mean": "*fp32", "p_partial_m2": "*fp32"},
            {**forward_plan.layout, "TILES": forward_plan.tiles},
            True,
        ),
        variant(
            _group_norm_relu_fwd_kernel,
            {"p_xs": maps, "p_ys": maps, **table, **statistics, **numbers},
            {**forward_plan.layout, "G": groups},
            True,
        ),
        variant(
            _group_norm_relu_sums_kernel,
            {"p_xs": maps, "p_dys": maps, **table, **statistics, **dict.fromkeys(partial, "*fp32"), **numbers},
            {**plan.layout, "G": groups, "TILES": plan.tiles},
            True,
        ),
        variant(
            _group_norm_relu_bwd_kernel,
            {
                "p_xs": maps,
                "p_dys": maps,
                "p_dxs": maps,
                **table,
                **statistics,
                "p_across": "*fp32",
                "p_along": "*fp32",
                **numbers,
            },
            {**plan.layout, "G": groups},
            True,
        ),
    ]
    if dtype == "float32":
        # the partial results are float32 whatever the inputs are
        merged = ("p_partial_mean", "p_partial_m2", "p_mean", "p_rstd")
        sums = (*partial, "p_weight", "p_by_bias", "p_by_weight", "p_across", "p_along")
        variants += [
            variant(
                _group_norm_relu_merge_kernel,
                {**table, **dict.fromkeys(merged, "*fp32"), **numbers, "eps": "fp32"},
                {**plan.merging, "PER_BLOCK": forward_plan.run * forward_plan.tiles},
                False,
            ),
            variant(
                _group_norm_relu_coefficients_kernel,
                {**table, **dict.fromkeys(sums, "*fp32"), **numbers},
                plan.merging,
                False,
            ),
        ]
    return variants
