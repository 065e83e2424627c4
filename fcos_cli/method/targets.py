"""The boxes of a batch as torch tensors: what assigners and losses learn from."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass
class Targets:
    """The boxes of a batch of N images, one ragged list.

    Attributes:
        boxes: float32 [T, 4] xyxy in input pixels, inside their image, none without area.
        labels: int32 [T].
        ignore: bool [T], crowd boxes: never positive.
        offsets: int64 [N + 1]; the boxes of image i are rows offsets[i]:offsets[i + 1].
    """

    boxes: Tensor
    labels: Tensor
    ignore: Tensor
    offsets: Tensor

    def to(self, device: torch.device | str) -> "Targets":
        """The same on another device."""
        moved = (t.to(device, non_blocking=True) for t in (self.boxes, self.labels, self.ignore, self.offsets))
        return Targets(*moved)
