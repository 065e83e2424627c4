"""Every kernel, compiled for GPUs that are not here: no spills, wide loads, code for all four targets."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from fcos_kernels.aot import loads, targets

pytest.importorskip("triton")

KERNELS = Path(__file__).parents[2] / "kernels"
TARGETS = {"sm_80", "sm_90", "sm_100", "gfx942"}


def aot(*arguments):
    """In a process of its own: here triton may be in interpreter mode."""
    environment = {**os.environ, "PYTHONPATH": str(KERNELS), "TRITON_INTERPRET": "1"}
    command = [sys.executable, "-m", "fcos_kernels.aot", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def table():
    done = aot("--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_every_kernel_on_every_target(table):
    assert {"kernel", "dtype", "target", "registers", "spills", "shared"} <= set(table[0])
    kernels = {row["kernel"] for row in table}
    assert {"_nms_mask_kernel", "_nms_sweep_kernel", "_decode_scan_kernel", "_decode_select_kernel"} <= kernels
    assert {row["target"] for row in table} == TARGETS
    for kernel in kernels:
        assert {row["target"] for row in table if row["kernel"] == kernel} == TARGETS, kernel


def test_nothing_spills(table):
    assert [row for row in table if row["spills"] or row["problems"]] == []
    assert all(row["registers"] > 0 for row in table)


def test_the_dtypes_that_the_ops_take(table):
    for op in ("detection_loss", "group_norm_relu"):
        dtypes = {row["dtype"] for row in table if op in row["kernel"]}
        assert {"float32", "bfloat16", "float16"} <= dtypes, op


def test_an_unknown_kernel_is_said():
    done = aot("--kernel", "no_such_kernel", "--target", "sm_90")
    assert done.returncode == 2
    assert "no_such_kernel" in done.stderr


def test_shared_memory_is_what_a_launch_asks_for(table):
    """Not what lies in the image, which is 0 or the 1,024 bytes that the driver keeps."""
    assert max(row["shared"] for row in table) >= 4096


def test_every_argument_that_is_read_whole_is_read_16_bytes_at_a_time(table):
    on_nvidia = [row for row in table if row["target"] != "gfx942"]
    assert {name for row in on_nvidia for name in row["loads"]} >= {"p_boxes", "p_classes", "p_xs", "p_dys", "p_logits"}
    assert all(size >= 16 for row in on_nvidia for size in row["loads"].values())


@pytest.mark.parametrize(
    ("target", "registers", "shared", "warps", "held"),
    [
        ("sm_90", 32, 0, 4, 64),
        ("sm_90", 64, 0, 4, 32),
        ("sm_90", 65, 0, 4, 28),
        ("sm_90", 128, 0, 4, 16),
        ("sm_90", 40, 32768, 16, 48),
        ("sm_90", 40, 100_000, 4, 8),
        ("sm_80", 40, 100_000, 4, 4),
        ("sm_90", 16, 0, 1, 32),
        ("sm_100", 255, 0, 8, 8),
        ("gfx942", 64, 0, 4, 32),
        ("gfx942", 128, 0, 4, 16),
        ("gfx942", 16, 32768, 4, 8),
        ("gfx942", 16, 0, 1, 32),
    ],
)
def test_warps_of_an_sm(target, registers, shared, warps, held):
    """NVIDIA's occupancy calculator (CUDA 12) for the same numbers; for AMD 512 registers a lane of a SIMD."""
    assert targets.warps_held(targets.TARGETS[target], registers, shared, warps) == held


PTX = """
.visible .entry _kernel(
    ld.param.b64 %rd1, [_kernel_param_2];
    mov.b64 %rd2, _kernel_param_0;
    mov.b64 %rd3, _kernel_param_1;
    selp.b64 %rd4, %rd2, %rd3, %p1;
    ld.param.b64 %rd5, [%rd4];
    mad.wide.s32 %rd6, %r1, 4, %rd5;
    @%p1 ld.global.v4.b32 { %r1, %r2, %r3, %r4 }, [ %rd6 + 0 ];
    ld.global.b16 { %rs1 }, [ %rd1 + 2 ];
    ld.global.b64 { %rd7 }, [ %rd1 + 8 ];
    add.s64 %rd8, %rd7, 16;
    ld.global.v2.b64 { %rd9, %rd10 }, [ %rd8 + 0 ];
"""


def test_loads_are_followed_back_to_their_arguments():
    signature = {"p_maps": ("*fp32", "*fp32"), "p_none": "*fp32", "p_index": "*i32", "p_out": "*fp32", "N": "constexpr"}
    found = loads.widest_loads(PTX, signature, {"p_none": None, "N": 4})
    for place in (2, 3, 4):  # as Triton 3.9 has it
        in_32_bits = re.sub(rf"%rd{place}\b", f"%r9{place}", PTX).replace("selp.b64", "selp.b32")
        assert loads.widest_loads(in_32_bits, signature, {"p_none": None, "N": 4}) == found
    assert found == {"p_maps": 16, "p_index": 8, "p_out": 0}
    wide_elsewhere = PTX.replace("ld.global.v4.b32 { %r1, %r2, %r3, %r4 }", "ld.global.b32 { %r1 }")
    assert loads.widest_loads(wide_elsewhere, signature, {"p_none": None, "N": 4})["p_maps"] == 4
