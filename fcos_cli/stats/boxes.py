"""The boxes of a data set as the network meets them, by the convention of training or by that of the authors."""

from dataclasses import dataclass, field, replace
from typing import Literal, get_args

import numpy as np

from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError, UsageError
from fcos_cli.geometry.pyramid import Pyramid, build_pyramid
from fcos_cli.geometry.resize import padded_size, resized_size
from fcos_cli.method.fcos.tables import FCOSAssignConfig
from fcos_cli.method.interface import ClaimRule
from fcos_cli.method.registry import assigner_of
from fcos_cli.method.table import AssignConfig
from fcos_cli.recipe.schema import Recipe

Convention = Literal["exact", "paper"]
CONVENTIONS: tuple[Convention, ...] = get_args(Convention)

CROWD = "crowd regions"
NOT_FINITE = "boxes with NaN or infinite coordinates"
NO_SIZE = "boxes of images whose size is unknown"
NO_AREA = "boxes with a side of zero or less"
NO_PIXELS = "boxes with a side of one pixel or less (none, once pixels are counted inclusively)"
OUTSIDE = "boxes outside of their image"


@dataclass(frozen=True)
class Setting:
    """What decides which locations get which boxes.

    Attributes:
        pyramid: levels with their ranges.
        short_side: of the network's input, in pixels.
        long_side: its largest length, in pixels.
        assign: the recipe's `[assign]`: the method, and its keys.
        convention: "exact" is what training uses: x1 = x + w. "paper" is the authors' code, inclusive pixels:
            x1 = x + w - 1, cut to the last pixel, boxes left without a side dropped.
    """

    pyramid: Pyramid = field(default_factory=lambda: build_pyramid([3, 4, 5, 6, 7]))
    short_side: int = 800
    long_side: int = 1333
    assign: AssignConfig = field(default_factory=FCOSAssignConfig)
    convention: Convention = "exact"

    @staticmethod
    def of_recipe(recipe: Recipe) -> "Setting":
        """The setting a recipe trains with; of a range of short sides the largest."""
        short = recipe.data.short_side
        return Setting(
            pyramid=recipe.model.pyramid.geometry(),
            short_side=short if isinstance(short, int) else max(short),
            long_side=recipe.data.long_side,
            assign=recipe.assign,
        )

    @property
    def claim_rule(self) -> ClaimRule:
        """The assignment as arrays.

        Raises:
            UsageError: the assigner has none; most often it looks at the network's outputs.
        """
        part = assigner_of(self.assign)
        if part.claims is None:
            why = "assigns by what the network predicts, which no statistics of a data set can tell"
            raise UsageError(
                f'assign.name = "{self.assign.name}" {why if part.needs_outputs else "gives the statistics no claims"}',
                "its positives are logged while it trains (fcos train RECIPE); what FCOS's own rule gives: "
                'name a recipe with assign.name = "fcos"',
            )
        return part.claims

    @staticmethod
    def of_test(recipe: Recipe) -> "Setting":
        """The setting a recipe predicts with: its sizes of testing, its levels and assignment of training."""
        return replace(Setting.of_recipe(recipe), short_side=recipe.test.short_side, long_side=recipe.test.long_side)


@dataclass(frozen=True)
class NetworkBoxes:
    """Boxes in pixels of the network's input.

    Attributes:
        boxes: float32 [T, 4] xyxy, image after image.
        offsets: int64 [N + 1]; image n owns the rows offsets[n] .. offsets[n + 1].
        rows: int64 [T], their rows in the data set.
        padded: int64 [N, 2], width and height of each image's canvas.
        dropped: what was left out and why, with counts.
    """

    boxes: np.ndarray
    offsets: np.ndarray
    rows: np.ndarray
    padded: np.ndarray
    dropped: dict[str, int]


def network_boxes(data: DetectionData, setting: Setting) -> NetworkBoxes:
    """Scales a data set's boxes by the two rounded ratios of the resize rule, and leaves out what can never be learnt.

    Raises:
        DataError: no boxes are left.
    """
    inner, padded = input_sizes(data.sizes, setting)
    image_of = np.repeat(np.arange(len(data)), np.diff(data.offsets))
    sizes, inner_of = data.sizes[image_of].astype(np.float64), inner[image_of]
    boxes = np.array(data.boxes, dtype=np.float64)

    finite = np.isfinite(boxes).all(axis=1)
    with np.errstate(invalid="ignore", divide="ignore"):
        ratios = np.tile(inner_of / sizes, 2)
        if setting.convention == "paper":
            boxes[:, 2:] -= 1
            solid = _solid(boxes)
            scaled = np.clip(boxes, 0, np.tile(sizes - 1, 2)) * ratios
        else:
            solid = _solid(boxes)
            scaled = np.clip(boxes * ratios, 0, np.tile(inner_of, 2))
    reasons = (
        (CROWD, ~data.crowd),
        (NOT_FINITE, finite),
        (NO_SIZE, (sizes > 0).all(axis=1)),
        (NO_PIXELS if setting.convention == "paper" else NO_AREA, solid),
        (OUTSIDE, _solid(scaled)),
    )
    kept = np.ones(len(boxes), dtype=bool)
    dropped = dict(data.dropped)
    for reason, fine in reasons:
        if lost := int((kept & ~fine).sum()):
            dropped[reason] = dropped.get(reason, 0) + lost
        kept &= fine
    rows = np.flatnonzero(kept)
    if not rows.size:
        raise _nothing_left(data, dropped)
    counts = np.bincount(image_of[rows], minlength=len(data))
    offsets = np.concatenate([[0], np.cumsum(counts)]).astype(np.int64)
    return NetworkBoxes(scaled[rows].astype(np.float32), offsets, rows, padded, dropped)


def _solid(boxes: np.ndarray) -> np.ndarray:
    return np.asarray((boxes[:, 2:] > boxes[:, :2]).all(axis=1))


def input_sizes(sizes: np.ndarray, setting: Setting) -> tuple[np.ndarray, np.ndarray]:
    """How large images of width and height `sizes` [N, 2] enter the network, in pixels.

    Returns:
        int64 [N, 2] each: width and height after resizing, and after padding each by itself; 0 where `sizes` has a 0.
    """
    different, place = np.unique(sizes.reshape(-1, 2), axis=0, return_inverse=True)
    inner = np.zeros((len(different), 2), dtype=np.int64)
    padded = np.zeros_like(inner)
    for row, (width, height) in enumerate(different.tolist()):
        if width > 0 and height > 0:
            inner[row] = resized_size(width, height, setting.short_side, setting.long_side)
            padded[row] = padded_size(*inner[row].tolist())
    return inner[place.ravel()], padded[place.ravel()]


def _nothing_left(data: DetectionData, dropped: dict[str, int]) -> DataError:
    if not data.annotated:
        return DataError(f"{data.name} has no annotations", "give --data a data set with annotations")
    reasons = ", ".join(f"{count} {reason}" for reason, count in dropped.items())
    return DataError(
        f"{data.name} has no boxes to learn from in its {len(data)} images"
        + (f"; left out: {reasons}" if reasons else ""),
        "check the annotations, or choose another --split",
    )
