"""The pixels that weights were trained on: order of the channels, mean and deviation (docs/method.md, Network)."""

from collections.abc import Mapping
from typing import Literal, NamedTuple, cast, get_args

from fcos_cli.recipe.schema import BackboneConfig, WeightStyle

Order = Literal["rgb", "bgr"]


class PixelFormat(NamedTuple):
    """A network reads (pixel - mean) / std, pixels of 0 to 255, mean and std in the order of the channels."""

    order: Order
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def as_json(self) -> dict[str, object]:
        """For the metadata of a detector's file."""
        return {"order": self.order, "mean": list(self.mean), "std": list(self.std)}

    @staticmethod
    def from_json(values: Mapping[str, object]) -> "PixelFormat":
        """What `as_json` made. Raises KeyError, TypeError or ValueError where it is something else."""
        order, mean, std = values["order"], _three(values["mean"]), _three(values["std"])
        if order not in get_args(Order):
            raise ValueError(f"the order of the pixels is {order!r}")
        if not all(value > 0 for value in std):
            raise ValueError(f"the deviation of the pixels is {list(std)}")
        return PixelFormat(cast(Order, order), mean, std)


IMAGENET = PixelFormat("rgb", (0.485 * 255, 0.456 * 255, 0.406 * 255), (0.229 * 255, 0.224 * 255, 0.225 * 255))
MSRA = PixelFormat("bgr", (102.9801, 115.9465, 122.7717), (1.0, 1.0, 1.0))
DETECTRON2 = PixelFormat("bgr", (103.53, 116.28, 123.675), (1.0, 1.0, 1.0))

OF_STYLE: dict[WeightStyle, PixelFormat] = {"pytorch": IMAGENET, "caffe": MSRA}
"""What weights of a style were trained on unless they say otherwise themselves."""


def chosen(config: BackboneConfig, theirs: PixelFormat) -> PixelFormat:
    """The format that a recipe asks for: the weights' own but for the keys that it sets."""
    return PixelFormat(
        theirs.order if config.pixel_order == "auto" else config.pixel_order,
        theirs.mean if config.pixel_mean is None else config.pixel_mean,
        theirs.std if config.pixel_std is None else config.pixel_std,
    )


def _three(value: object) -> tuple[float, ...]:
    if not isinstance(value, list | tuple) or len(value) != 3:
        raise ValueError(f"three numbers, one a channel, are needed, not {value!r}")
    return tuple(float(number) for number in value)
