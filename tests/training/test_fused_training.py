"""A short `fcos train` with the Triton kernels (interpreted) and one with plain PyTorch: the same losses."""

import json
import os
import subprocess
import sys

import pytest

from fcos_kernels import dispatch

pytestmark = pytest.mark.skipif(not dispatch.has_triton(), reason="triton is not installed")

STEPS = 50
LOSSES = ("loss", "classification", "box", "quality")
PROGRAM = """
from fcos_cli.data.shapes import dataset as shapes
shapes.SPLITS.update(train=24, val=2)
from fcos_cli.__main__ import main
main()
"""
# Small, because the interpreter takes milliseconds a program; every kernel of the training runs each step.
SMALL = (
    f"schedule.iterations={STEPS}",
    "schedule.warmup_iterations=10",
    "train.log_every=1",
    "train.batch_size=2",
    "data.short_side=64",
    "data.long_side=64",
    "test.short_side=64",
    "test.long_side=64",
    "model.backbone.width=8",
    "model.pyramid.channels=16",
    "model.pyramid.levels=[3, 4, 5]",
    "model.head.groups=4",
    "model.head.convs=1",
    'train.precision="float32"',
)


def train(folder, kernels):
    """The log of a training, one line a step, and what was said on stderr."""
    chosen = {"FCOS_KERNELS": kernels, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    environment = {**os.environ, **chosen}
    settings = [word for setting in SMALL for word in ("--set", setting)]
    command = [sys.executable, "-c", PROGRAM, "train", "shapes", "--run-dir", str(folder), "--json", *settings]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd=folder.parent)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line], done.stderr


@pytest.mark.long
def test_fused_and_reference_ops_learn_the_same(tmp_path):
    plain, said_plain = train(tmp_path / "plain", "reference")
    fused, said_fused = train(tmp_path / "fused", "triton")
    assert "Triton kernels" in said_fused
    assert "Triton kernels" not in said_plain
    assert [line["iteration"] for line in fused] == list(range(1, STEPS + 1))
    assert fused[-1]["loss"] < 0.95 * fused[0]["loss"]
    for theirs, ours in zip(plain, fused, strict=True):
        assert ours["positives"] == theirs["positives"]
        # float32 rounds at 6e-8; what fifty updates make of it stays below ten roundings
        assert {name: ours[name] for name in LOSSES} == pytest.approx({name: theirs[name] for name in LOSSES}, rel=1e-6)
