"""The cases of all that follows the network: decoding, suppression, and the best 100 of each image gathered.

Rivals: decoding as in `decode.py`, then suppression of each image, in eager PyTorch and by torchvision.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

from fcos_kernels.bench import decode, eager, torchvision_ops
from fcos_kernels.bench.case import Case
from fcos_kernels.bench.nms import MOST, THRESHOLD
from fcos_kernels.bench.problems import Size
from fcos_kernels.bench.timing import Work
from fcos_kernels.decode import decode_padded
from fcos_kernels.nms import batched_nms

BYTES_OF_A_DETECTION = 4 * 4 + 4 + 4


def cases(device: torch.device, with_compile: bool) -> Iterator[Case]:
    """All that follows the network: decoding, suppression, and the best 100 of each image gathered."""
    for size, dtype in decode.sizes(device):
        yield _postprocess_case(size, dtype, device)


def _postprocess_case(size: Size, dtype: torch.dtype, device: torch.device) -> Case:
    outputs = decode.head_outputs(size, dtype, device)

    def ours() -> tuple[Tensor, Tensor, Tensor]:
        candidates = decode_padded(*outputs, decode.RULE)
        rows = batched_nms(candidates.boxes, candidates.scores, candidates.labels, THRESHOLD, MOST)
        place = rows.clamp(min=0)
        boxes = candidates.boxes.gather(1, place[:, :, None].expand(-1, -1, 4))
        scores = candidates.scores.gather(1, place).masked_fill_(rows < 0, -1.0)
        return boxes, scores, candidates.labels.gather(1, place)

    def usual() -> list[tuple[Tensor, ...]]:
        candidates = (decode.of_image(outputs, image, size) for image in range(size.images))
        return [tuple(x[eager.nms(*one[:3], THRESHOLD, MOST)] for x in one[:3]) for one in candidates]

    def compare() -> None:
        _, scores, _ = ours()
        for mine, (_, theirs, _) in zip(scores, usual(), strict=True):
            # who is kept of overlapping boxes with equal scores is a matter of order: in bfloat16 there are such
            torch.testing.assert_close(mine[mine >= 0].mean(), theirs.mean(), rtol=1e-3, atol=0)
            assert int((mine >= 0).sum()) == len(theirs)

    rivals: dict[str, Work] = {"eager": usual}
    theirs = torchvision_ops.nms()
    if theirs is not None:

        def suppressed(image: int) -> tuple[Tensor, ...]:
            candidates = decode.of_image(outputs, image, size)
            kept = theirs(*candidates[:3], THRESHOLD)[:MOST]
            return tuple(x[kept] for x in candidates[:3])

        rivals["torchvision"] = lambda: [suppressed(image) for image in range(size.images)]
    moved = decode.bytes_read(outputs) + size.images * MOST * BYTES_OF_A_DETECTION
    return Case("postprocess", decode.size_name(size, dtype), moved, ours, compare, rivals)
