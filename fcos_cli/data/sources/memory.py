"""Images as users of the Python API have them: paths, Pillow images, arrays, tensors."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from PIL import Image

from fcos_cli.data.images import image_sizes, read_image, upright_pixels
from fcos_cli.data.records import DetectionData
from fcos_cli.data.sources.files import ImageFiles
from fcos_cli.data.sources.source import Images, ImageSource
from fcos_cli.errors import UsageError

ImageLike: TypeAlias = str | Path | Image.Image | np.ndarray | torch.Tensor


@dataclass(frozen=True)
class GivenImages(ImageSource):
    """The source of images of which at least one is in memory: each a path, or pixels uint8 [H, W, 3] RGB.

    `stretch` as `ImageFiles` has it.
    """

    images: Sequence[Path | np.ndarray]
    stretch: bool = False

    def read(self, data: Images, index: int) -> np.ndarray:
        """As `ImageSource.read`."""
        image = self.images[index]
        return read_image(image, stretch=self.stretch) if isinstance(image, Path) else image


def as_data(
    images: Sequence[ImageLike], several: bool, *, stretch: bool = False
) -> tuple[DetectionData, list[Path | np.ndarray]]:
    """The images as a data set without annotations, and each as a path or as pixels.

    Args:
        images: what the user gave, in order.
        several: they came as a list, in which an error names the position.
        stretch: whether 16-bit gray files and Pillow images are stretched, as `images.read_image` has it.

    Returns:
        The data set, in the same order; and its images: a path, which is not yet read, or pixels uint8 [H, W, 3] RGB.

    Raises:
        UsageError: something that is no image, or an array of another type or shape.
        DataError: a Pillow image that turns out to be broken.
    """
    held = [
        _held(image, f"image {number} of the list" if several else "the image", stretch)
        for number, image in enumerate(images)
    ]
    count = len(held)
    files = all(isinstance(image, Path) for image in held)
    sizes = np.zeros((count, 2), dtype=np.int32)
    if not files:
        for number, image in enumerate(held):
            sizes[number] = image_sizes([image])[0] if isinstance(image, Path) else image.shape[1::-1]
    names = [str(image) if isinstance(image, Path) else f"image {i}" for i, image in enumerate(held)]
    # Files alone are read and resized in one go, as `fcos predict` does.
    source = ImageFiles(stretch=stretch) if files else GivenImages(held, stretch)
    data = DetectionData.unannotated("the images", np.arange(count, dtype=np.int64), names, sizes, Path(), source)
    return data, held


def _held(image: Any, what: str, stretch: bool) -> Path | np.ndarray:
    if isinstance(image, str | Path):
        path = Path(image).expanduser()
        if path.is_dir():
            raise UsageError(
                f"{what} is a folder: {path}", f"give its files: predict(list(Path({str(path)!r}).glob('*.jpg')))"
            )
        return path
    if isinstance(image, Image.Image):
        return upright_pixels(image, what, stretch=stretch)
    if isinstance(image, torch.Tensor):
        if image.dtype != torch.uint8 or image.ndim != 3 or image.shape[0] not in (1, 3):
            raise UsageError(
                f"{what} is a tensor {image.dtype} {list(image.shape)}",
                "it must be uint8 [3, H, W] RGB; values 0..1: (255 * tensor).round().to(torch.uint8); channels last: "
                "tensor.permute(2, 0, 1); a batch: predict(list(tensor))",
            )
        return _as_rgb(image.permute(1, 2, 0).cpu().numpy(), what)
    if isinstance(image, np.ndarray):
        return _as_rgb(image, what)
    raise UsageError(
        f"{what} is {type(image).__name__}, not an image",
        "give a path, a Pillow image, an array uint8 [H, W, 3] RGB, a tensor uint8 [3, H, W], or a list of them",
    )


def _as_rgb(pixels: np.ndarray, what: str) -> np.ndarray:
    shape = list(pixels.shape)
    if pixels.dtype != np.uint8:
        raise UsageError(f"{what} is an array of {pixels.dtype} {shape}, not uint8", _as_uint8(pixels.dtype))
    if pixels.ndim == 4 and pixels.shape[-1] in (1, 3):
        raise UsageError(f"{what} is an array {shape}: several images", "give a list of them: predict(list(array))")
    if pixels.ndim == 3 and pixels.shape[2] == 4:
        raise UsageError(
            f"{what} is an array {shape} with alpha", "let Pillow put it on white: predict(Image.fromarray(array))"
        )
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] not in (1, 3)) or 0 in pixels.shape:
        hint = "it must be [H, W, 3] RGB or [H, W] gray"
        if pixels.ndim == 3 and pixels.shape[0] in (1, 3):
            hint += "; channels come last: array.transpose(1, 2, 0)"
        raise UsageError(f"{what} is an array {shape}", hint)
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    return np.ascontiguousarray(np.broadcast_to(pixels, (*pixels.shape[:2], 3)))


def _as_uint8(dtype: np.dtype[Any]) -> str:
    """How to make pixels of an array of this type."""
    if dtype.kind == "b":
        return "255 * array.astype(np.uint8)"
    if dtype.kind == "u":
        return "values 0..255: array.astype(np.uint8); 0..65535: (array >> 8).astype(np.uint8)"
    if dtype.kind in "fi":
        return "values 0..1: (255 * array).round().astype(np.uint8); 0..255: array.astype(np.uint8)"
    return "give an array of numbers, or a list of images"
