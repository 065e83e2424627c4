"""torchvision's ops, rivals of ours; None where torchvision does not import."""

from collections.abc import Callable

from torch import Tensor

from fcos_kernels.bench import eager


def nms() -> Callable[..., Tensor] | None:
    """`batched_nms`, class-aware."""
    try:
        from torchvision.ops import batched_nms
    except (ImportError, RuntimeError):
        return None
    op: Callable[..., Tensor] = batched_nms
    return op


def losses() -> tuple[eager.Loss, eager.Loss] | None:
    """Focal and GIoU loss."""
    try:
        from torchvision.ops import generalized_box_iou_loss, sigmoid_focal_loss
    except (ImportError, RuntimeError):
        return None
    return sigmoid_focal_loss, generalized_box_iou_loss
