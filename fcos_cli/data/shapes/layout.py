"""Where the shapes of the built-in data set lie: a whole split at once, vectorised over its images."""

import math
from dataclasses import dataclass

import numpy as np

MIN_SIDE, MAX_SIDE = 144, 176
EMPTY_SHARE = 0.05
PROPOSALS, MAX_OBJECTS = 14, 7
# The longer side of a proposed shape in pixels at these quantiles, log-uniform between them: few are tiny or huge.
SIZE_QUANTILES = (0.0, 0.04, 0.86, 1.0)
SIZES = (8.0, 24.0, 100.0, 150.0)
MIN_VISIBLE = 0.5
# Two boxes share at most this part of the smaller one, unless it is that much smaller than the other and may lie on it.
MAX_OVERLAP, NESTED = 0.35, 0.12
# This share of the shapes may hang over the image's edge, by this part of its box a side.
SPILL_SHARE, SPILL = 0.2, 0.3
LAYOUT_STREAM = 1
_DRAWS = 7
_ARC = 48


@dataclass(frozen=True)
class Shape:
    """A class: its outline [V, 2] around the origin (y down), a hole in it [V', 2] or None, its data-set id."""

    category_id: int
    name: str
    outline: np.ndarray
    hole: np.ndarray | None = None

    @property
    def area(self) -> float:
        """Area of the unit shape."""
        return _polygon_area(self.outline) - (0.0 if self.hole is None else _polygon_area(self.hole))


def _polygon_area(points: np.ndarray) -> float:
    x, y = points.T
    return abs(float(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1)))) / 2


def _regular(vertices: int, radius: float = 1.0, start: float = -math.pi / 2) -> np.ndarray:
    angles = start + np.arange(vertices) * (2 * math.pi / vertices)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _star() -> np.ndarray:
    points = np.empty((10, 2))
    points[0::2] = _regular(5)
    points[1::2] = _regular(5, 0.42, -math.pi / 2 + math.pi / 5)
    return points


def _cross(arm: float = 0.34) -> np.ndarray:
    quarter = np.array([(arm, -1.0), (arm, -arm), (1.0, -arm)])
    turned = [quarter]
    for _ in range(3):
        turned.append(np.stack([-turned[-1][:, 1], turned[-1][:, 0]], axis=1))
    return np.concatenate(turned)


def _crescent(shift: float = 0.5, radius: float = 0.82) -> np.ndarray:
    """The unit disc less a disc of `radius` whose centre lies `shift` to the right."""
    x = (1 + shift * shift - radius * radius) / (2 * shift)
    outer = math.atan2(math.sqrt(1 - x * x), x)
    inner = math.atan2(math.sqrt(1 - x * x), x - shift)
    a = np.linspace(outer, 2 * math.pi - outer, _ARC)
    b = np.linspace(2 * math.pi - inner, inner, _ARC // 2 + 2)[1:-1]
    back = np.stack([shift + radius * np.cos(b), radius * np.sin(b)], axis=1)
    return np.concatenate([np.stack([np.cos(a), np.sin(a)], axis=1), back])


# The ids have gaps on purpose, as COCO's have: whatever mixes up ids and labels fails on the built-in data too.
SHAPES = (
    Shape(1, "circle", _regular(_ARC)),
    Shape(2, "square", _regular(4, start=math.pi / 4)),
    Shape(3, "triangle", _regular(3)),
    Shape(5, "star", _star()),
    Shape(6, "ring", _regular(_ARC), _regular(_ARC, 0.55)),
    Shape(8, "cross", _cross()),
    Shape(11, "crescent", _crescent()),
)


@dataclass(frozen=True)
class Layout:
    """N images and B shapes, in the order they are painted.

    Attributes:
        sizes: int32 [N, 2], width and height.
        offsets: int64 [N + 1]; the shapes of image i are rows offsets[i]:offsets[i + 1].
        labels: int32 [B], position in SHAPES.
        boxes: float64 [B, 4] xyxy of the full shapes, clipped to the image.
        affine: float64 [B, 2, 2], unit shape -> pixels.
        centres: float64 [B, 2] in pixels.
    """

    sizes: np.ndarray
    offsets: np.ndarray
    labels: np.ndarray
    boxes: np.ndarray
    affine: np.ndarray
    centres: np.ndarray

    def outline(self, row: int) -> tuple[np.ndarray, np.ndarray | None]:
        """Outline and hole of shape `row` in pixels of its image."""
        shape = SHAPES[self.labels[row]]
        hole = None if shape.hole is None else _place(shape.hole, self.affine[row], self.centres[row])
        return _place(shape.outline, self.affine[row], self.centres[row]), hole


def _snap(values: np.ndarray) -> np.ndarray:
    """To 1/256 pixel: the last bits of sin, cos and exp differ between platforms."""
    return np.round(values * 256) / 256


def _place(points: np.ndarray, affine: np.ndarray, centre: np.ndarray) -> np.ndarray:
    return _snap(points @ affine.T + centre)


def make_layout(images: int, key: tuple[int, ...]) -> Layout:
    """Lays out `images` images; image i depends on (*key, i) only."""
    draws = np.empty((images, 3 + _DRAWS * PROPOSALS))
    for index in range(images):
        seeds = np.random.SeedSequence([LAYOUT_STREAM, *key, index])
        np.random.Generator(np.random.PCG64(seeds)).random(out=draws[index])
    sizes = (MIN_SIDE + np.floor(draws[:, :2] * (MAX_SIDE - MIN_SIDE + 1))).astype(np.int32)
    filled = (draws[:, 2] - EMPTY_SHARE) / (1 - EMPTY_SHARE)
    wanted = np.where(filled < 0, 0, 1 + np.floor(filled * MAX_OBJECTS)).astype(np.int64)
    labels, affine, centres, boxes = _propose(draws[:, 3:].reshape(images, PROPOSALS, _DRAWS), sizes)
    accepted = _choose(labels, affine, boxes, sizes, wanted)
    # Large shapes are painted first, so that small ones stay in sight.
    order = np.argsort(-_areas(boxes), axis=1, kind="stable")
    image, position = np.nonzero(np.take_along_axis(accepted, order, axis=1))
    slot = order[image, position]
    return Layout(
        sizes=sizes,
        offsets=np.concatenate([[0], np.cumsum(accepted.sum(axis=1))]).astype(np.int64),
        labels=labels[image, slot],
        boxes=np.clip(_snap(boxes[image, slot]), 0, np.tile(sizes[image], 2)),
        affine=affine[image, slot],
        centres=centres[image, slot],
    )


def _areas(boxes: np.ndarray) -> np.ndarray:
    sides = np.clip(boxes[..., 2:] - boxes[..., :2], 0, None)
    return sides[..., 0] * sides[..., 1]


def _propose(draws: np.ndarray, sizes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Random shapes from draws [N, P, 7]: labels [N, P], affine [N, P, 2, 2], centres [N, P, 2], boxes [N, P, 4]."""
    labels = np.floor(draws[..., 0] * len(SHAPES)).astype(np.int32)
    longest = np.exp(np.interp(draws[..., 1], SIZE_QUANTILES, np.log(SIZES)))
    longest = np.minimum(longest, 0.9 * sizes.min(axis=1)[:, None])
    turn, squeeze = 2 * np.pi * draws[..., 2], 1 - 0.2 * draws[..., 3]
    cos, sin = np.cos(turn), np.sin(turn)
    affine = np.stack([np.stack([cos, -sin * squeeze], -1), np.stack([sin, cos * squeeze], -1)], -2)
    low, high = np.empty_like(draws[..., :2]), np.empty_like(draws[..., :2])
    for label, shape in enumerate(SHAPES):
        rows = labels == label
        placed = affine[rows] @ shape.outline.T
        low[rows], high[rows] = placed.min(axis=-1), placed.max(axis=-1)
    scale = (longest / (high - low).max(axis=-1))[..., None]
    low, high = low * scale, high * scale
    side = high - low
    spill = np.where(draws[..., 4, None] < SPILL_SHARE, SPILL, 0.0) * side
    corner = draws[..., 5:7] * (sizes[:, None] - side + 2 * spill) - spill
    boxes = np.concatenate([corner, corner + side], axis=-1)
    return labels, affine * scale[..., None], corner - low, boxes


def _choose(
    labels: np.ndarray, affine: np.ndarray, boxes: np.ndarray, sizes: np.ndarray, wanted: np.ndarray
) -> np.ndarray:
    """Which proposals [N, P] stay, taken in turn: every shape keeps MIN_VISIBLE of its area in the image and in sight.

    What lies outside the image or under the box of a smaller shape counts as hidden: a bound that needs no pixels.
    """
    area = _areas(boxes)
    shape_area = np.array([shape.area for shape in SHAPES])[labels] * np.linalg.det(affine)
    may_hide = (1 - MIN_VISIBLE) * shape_area
    hidden = area - _areas(np.clip(boxes, 0, np.tile(sizes, 2)[:, None]))
    accepted = np.zeros(labels.shape, dtype=bool)
    for p in range(labels.shape[1]):
        others = slice(0, p)
        shared = np.concatenate(
            [
                np.maximum(boxes[:, p, None, :2], boxes[:, others, :2]),
                np.minimum(boxes[:, p, None, 2:], boxes[:, others, 2:]),
            ],
            axis=-1,
        )
        shared = np.where(accepted[:, others], _areas(shared), 0.0)
        below = area[:, others] >= area[:, p, None]
        smaller, larger = np.minimum(area[:, others], area[:, p, None]), np.maximum(area[:, others], area[:, p, None])
        clear = (shared <= MAX_OVERLAP * smaller) | (smaller <= NESTED * larger)
        new_hidden = hidden[:, others] + np.where(below, shared, 0.0)
        own_hidden = hidden[:, p] + np.where(below, 0.0, shared).sum(axis=1)
        fits = clear.all(axis=1) & ((new_hidden <= may_hide[:, others]) | ~accepted[:, others]).all(axis=1)
        accepted[:, p] = fits & (own_hidden <= may_hide[:, p]) & (accepted.sum(axis=1) < wanted)
        took = accepted[:, p]
        hidden[took, others] = new_hidden[took]
        hidden[took, p] = own_hidden[took]
    return accepted
