"""What follows the network, as a GPU is given it: how many launches, and nothing that a CUDA graph could not hold."""

import os

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

pytest.importorskip("triton")

from fcos_kernels.common.outputs import Outputs
from fcos_kernels.decode import launch as decode_launch
from fcos_kernels.decode.types import Rule
from fcos_kernels.nms import launch as nms_launch

pytestmark = pytest.mark.skipif(
    os.environ.get("TRITON_INTERPRET") != "1", reason="counts what Triton's interpreter would run"
)
MOST_LAUNCHES = 12
IMAGES, CLASSES = 2, 80
GRIDS = [(100, 168), (50, 84), (25, 42), (13, 21), (7, 11)]
STRIDES, STARTS = (8, 16, 32, 64, 128), (4, 8, 16, 32, 64)
NO_LAUNCH = {"empty", "new_empty", "empty_like", "view", "slice", "detach", "select", "expand", "as_strided"}


class Counted(TorchDispatchMode):
    """Names of PyTorch's operations that launch something, as they come."""

    def __init__(self, launched):
        super().__init__()
        self.launched = launched

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func.overloadpacket.__name__
        if name not in NO_LAUNCH:
            self.launched.append(name)
        return func(*args, **(kwargs or {}))


@pytest.fixture
def launched(monkeypatch):
    """Names of what is launched, kernels and operations; kernels are not run."""
    from triton.runtime import interpreter

    found = []
    monkeypatch.setattr(
        interpreter.GridExecutor, "__call__", lambda self, *arguments, **named: found.append(self.fn.__name__)
    )
    with Counted(found):
        yield found


@pytest.mark.parametrize("rank_by", ["score", "class"])
def test_all_that_follows_the_network_is_a_dozen_launches(launched, rank_by):
    maps = [
        [torch.empty(IMAGES, channels, *grid, dtype=torch.bfloat16) for grid in GRIDS] for channels in (CLASSES, 4, 1)
    ]
    outputs, sizes = Outputs(*maps, torch.empty(5)), torch.empty(IMAGES, 2, dtype=torch.int64)
    rule = Rule(STRIDES, STARTS, STRIDES, "relu", "centerness", 0.05, rank_by=rank_by)
    found = decode_launch.launch(outputs, sizes, rule)
    assert found.scores.shape == (IMAGES, 5000)
    given = nms_launch.Padded(found.boxes, found.scores, found.labels)
    packed = nms_launch.launch_padded(given, 0.6, 100, [found.labels, found.level, found.location])
    assert packed.shape == (IMAGES, 100, 8)
    assert launched == [
        "zeros",
        "_decode_scan_kernel",
        "_decode_select_kernel",
        "_decode_boxes_kernel",
        "_nms_keys_kernel",
        "_nms_merge_kernel",
        *["_nms_mask_kernel", "_nms_sweep_kernel"] * 3,
    ]
    assert len(launched) <= MOST_LAUNCHES


def test_a_copy_from_the_host_would_be_counted(launched):
    torch.tensor([1.0, 2.0]).to(torch.float64)
    assert "_to_copy" in launched
