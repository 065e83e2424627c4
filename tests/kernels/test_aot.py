"""Every kernel, compiled for GPUs that are not here: no spills, wide loads, code for all four targets."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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
    assert {"_nms_mask_kernel", "_nms_sweep_kernel", "_decode_compact_kernel", "_decode_select_kernel"} <= kernels
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
