"""What the loss allocates on a CPU, counted by PyTorch's allocator."""

import pytest
import torch
from torch.profiler import ProfilerActivity, profile

from fcos_kernels.assign import assign
from fcos_kernels.loss import detection_loss
from fcos_kernels.loss.plain_focal import CPU_CHUNK_PER_THREAD

IMAGES, CLASSES = 4, 80
GRIDS = [(64, 96), (32, 48), (16, 24), (8, 12), (4, 6)]
STRIDES = [8, 16, 32, 64, 128]
STARTS = [stride // 2 for stride in STRIDES]
RANGES = [(0.0, 64.0), (64.0, 128.0), (128.0, 256.0), (256.0, 512.0), (512.0, float("inf"))]


def most_held(work):
    """Bytes that were allocated at once, at the most, while `work` ran; of what it allocated itself."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as found:
        work()
    events = sorted(found.profiler.kineto_results.events(), key=lambda event: event.start_ns())
    held = most = 0
    for event in events:
        if event.name() == "[memory]":
            held += event.nbytes()
            most = max(most, held)
    return most


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("learns", [True, False])
def test_one_buffer_of_the_size_of_the_logits(learns, dtype, layout):
    def outputs(channels):
        rows = [torch.zeros(IMAGES, channels, *grid, dtype=dtype).contiguous(memory_format=layout) for grid in GRIDS]
        return [row.requires_grad_(learns) for row in rows]

    classes, boxes_out, qualities = outputs(CLASSES), outputs(4), outputs(1)
    boxes = torch.tensor([(20.0, 30.0, 300.0, 200.0), (100.0, 90.0, 140.0, 150.0)]).repeat(IMAGES, 1)
    pyramid = {"strides": STRIDES, "starts": STARTS}
    found = assign(boxes, torch.arange(IMAGES + 1) * 2, grids=GRIDS, ranges=RANGES, **pyramid)

    def work():
        losses = detection_loss(
            classes, boxes_out, qualities, torch.ones(5), index=found.index, boxes=boxes,
            labels=torch.arange(2 * IMAGES, dtype=torch.int32), **pyramid, units=STRIDES, activation="relu",
            box_loss="giou", box_weight="centerness", iou_smoothing=0.0, quality="centerness", alpha=0.25, gamma=2.0,
            positives=found.positives, box_normalizer=found.centerness_sum,
        )  # fmt: skip
        if learns:
            sum(losses).backward()

    work()
    for x in (*classes, *boxes_out, *qualities):
        x.grad = None
    most = most_held(work)
    size = sum(x.numel() for x in classes) * classes[0].element_size()
    scratch = 3 * 4 * CPU_CHUNK_PER_THREAD * torch.get_num_threads()
    rest = size * 5 // CLASSES + (1 << 20)  # the other gradients; what is computed for positives and for the index
    assert (size if learns else 0) < most <= (size if learns else 0) + min(scratch, 3 * 4 * classes[0].numel()) + rest
