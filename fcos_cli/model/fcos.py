"""The detector: pixels in, raw head outputs out (FCOS, arXiv 1904.01355; docs/method.md, Network)."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from fcos_cli.errors import RecipeError
from fcos_cli.geometry.resize import padded_size
from fcos_cli.method.interface import Outputs
from fcos_cli.method.registry import head_of
from fcos_cli.model import fpn
from fcos_cli.model.pixels import OF_STYLE, PixelFormat, chosen
from fcos_cli.model.resnet import ResNet
from fcos_cli.recipe.schema import ModelConfig, WeightStyle


class PixelBatch(NamedTuple):
    """Images as the network reads them."""

    pixels: Tensor
    """float32 [N, 3, H, W], normalised, then padded with zeros at the bottom and right; H, W multiples of 32"""
    sizes: Tensor
    """int64 [N, 2] (height, width) of each image before the padding, on the CPU"""


class FCOS(nn.Module):
    """Backbone, feature pyramid and head, randomly initialised; `weights.load_backbone` loads published weights.

    Args:
        config: the recipe's `model`.
        num_classes: channels of the class output.
        style: stride placement that the weights want, and pixel format where nothing else says it
            (`weights.resolve_style`).
        pixels: what the weights say of their pixels; None: what is usual in their style. Keys of the recipe go first.

    Raises:
        RecipeError: levels and ranges that do not match, or head groups that do not divide the channels.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self, config: ModelConfig, num_classes: int, style: WeightStyle = "pytorch", pixels: PixelFormat | None = None
    ) -> None:
        super().__init__()
        if num_classes < 1:
            raise ValueError(f"a detector needs at least one class, not {num_classes}")
        try:
            self.pyramid = config.pyramid.geometry()
        except ValueError as error:
            raise RecipeError(f"model.pyramid: {error}", "set model.pyramid.levels and model.pyramid.ranges") from error
        self.config = config
        self.num_classes = num_classes
        self.style: WeightStyle = style
        self.pixels = chosen(config.backbone, pixels or OF_STYLE[style])
        self.backbone = ResNet(config.backbone, style, fpn.inputs(config.pyramid))
        self.fpn = fpn.FeaturePyramid(config.pyramid, self.backbone.channels)
        part = head_of(config.head)
        self.head = part.build(config.head, config.pyramid.channels, num_classes, self.pyramid)
        self.outputs = part.outputs(config.head, num_classes)
        """Channels of each output by name, as the method declares them."""
        self.register_buffer("pixel_mean", torch.tensor(self.pixels.mean).view(3, 1, 1), persistent=False)
        self.register_buffer("pixel_std", torch.tensor(self.pixels.std).view(3, 1, 1), persistent=False)

    @property
    def device(self) -> torch.device:
        return self.pixel_mean.device

    def preprocess(
        self, images: Sequence[Tensor], memory_format: torch.memory_format = torch.channels_last
    ) -> PixelBatch:
        """Normalises images as the weights want them and pads them to one common size.

        Args:
            images: uint8 [H, W, 3] RGB each, on any device.
            memory_format: of the pixels; channels_last is a straight copy of what images are.
        """
        for image in images:
            if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[2] != 3:
                raise ValueError(f"an image must be uint8 [H, W, 3], not {image.dtype} {list(image.shape)}")
        sizes = torch.tensor([image.shape[:2] for image in images], dtype=torch.int64).reshape(-1, 2)
        height, width = (int(side) for side in sizes.max(dim=0).values)
        width, height = padded_size(width, height)
        pixels = torch.empty((len(images), 3, height, width), device=self.device, memory_format=memory_format).zero_()
        for slot, image in zip(pixels, images, strict=True):
            moved = image.to(self.device, non_blocking=True)
            channels = moved.flip(2) if self.pixels.order == "bgr" else moved
            inside = slot[:, : image.shape[0], : image.shape[1]]
            inside.copy_(channels.permute(2, 0, 1)).sub_(self.pixel_mean).div_(self.pixel_std)
        return PixelBatch(pixels, sizes)

    def forward(self, pixels: Tensor) -> Outputs:
        """Pixels [N, 3, H, W] -> raw outputs of every level; `pyramid.grids(H, W)` gives their rows and columns."""
        return self.head(self.fpn(self.backbone(pixels)))
