"""Pixels of the built-in data set: a textured ground, then the shapes in painter's order, with smooth edges.

Arithmetic is kept to what IEEE 754 and Pillow's integer code fix exactly, so that an image is the same everywhere.
"""

from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from fcos_cli.data.shapes.layout import Layout

PIXEL_STREAM = 2
NOISE = 10.0
_COLOUR_TRIES = 8
_CORNERS = 12
_SUPERSAMPLE_SMALL, _SUPERSAMPLE_LARGE, _SMALL = 8, 4, 32
# How much red, green and blue differ to the eye.
_EYE = np.array([0.55, 0.75, 0.36], dtype=np.float32)


def draw_image(layout: Layout, image: int, key: tuple[int, ...]) -> np.ndarray:
    """uint8 [H, W, 3] RGB: image `image` of the layout. The same key gives the same pixels."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([PIXEL_STREAM, *key])))
    width, height = (int(side) for side in layout.sizes[image])
    canvas, grounds = _ground(rng, height, width)
    rows = range(int(layout.offsets[image]), int(layout.offsets[image + 1]))
    fills: dict[int, np.ndarray] = {}
    for row in rows:
        below = [fill for other, fill in fills.items() if _touch(layout.boxes[row], layout.boxes[other])]
        fills[row] = _contrasting(rng, [*grounds, *below])
        _paint(canvas, *layout.outline(row), fills[row], rng)
    canvas += (rng.random((height, width), dtype=np.float32) - np.float32(0.5)) * np.float32(NOISE)
    np.clip(canvas, 0, 255, out=canvas)
    return np.ascontiguousarray(canvas.astype(np.uint8).transpose(1, 2, 0))


def _touch(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(max(a[0], b[0]) < min(a[2], b[2]) and max(a[1], b[1]) < min(a[3], b[3]))


def _contrasting(rng: np.random.Generator, others: list[np.ndarray]) -> np.ndarray:
    """The random colour that lies farthest from the nearest of `others`."""
    tries = rng.random((_COLOUR_TRIES, 3), dtype=np.float32) * 255
    # Away from grey: a strong channel and a weak one make a colour that is nice to look at.
    tries = np.clip((tries - 128) * np.float32(1.35) + 128, 0, 255)
    apart = ((tries[:, None] - np.array(others, dtype=np.float32)[None]) * _EYE) ** 2
    return tries[np.argmax((apart[..., 0] + apart[..., 1] + apart[..., 2]).min(axis=1))]


def _clouds(rng: np.random.Generator, height: int, width: int, cells: int) -> np.ndarray:
    """Smooth noise in 0..1, float32 [H, W], about `cells` bumps across."""
    grid = (rng.random((cells, cells)) * 256).astype(np.uint8)
    smooth = Image.fromarray(grid).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(smooth, dtype=np.float32) * np.float32(1 / 255)


def _wave(phase: np.ndarray) -> np.ndarray:
    """A smooth wave in 0..1 of period 1, from exact operations only."""
    ramp = np.abs(2 * (phase - np.floor(phase)) - 1)
    return ramp * ramp * (3 - 2 * ramp)


def _ground(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """A textured ground, float32 [3, H, W], and the two colours [3] that it lies between."""
    y = np.arange(height, dtype=np.float32)[:, None] / np.float32(160)
    x = np.arange(width, dtype=np.float32)[None] / np.float32(160)
    level, step, kind, slope, pace, shift = rng.random(6).tolist()
    # Muted colours, that the shapes stand out from; the second one is clearly lighter or darker.
    first = (rng.random(3, dtype=np.float32) - np.float32(0.5)) * 90 + (55 + 145 * level)
    contrast = (32 + 38 * step) * (1 if level < 0.5 else -1)
    second = np.clip(first + (rng.random(3, dtype=np.float32) - np.float32(0.5)) * 50 + contrast, 5, 250)
    slope = 2 * slope - 1
    across = slope * x + (1 - abs(slope)) * y
    if kind < 0.25:
        mix = _clouds(rng, height, width, 4 + int(pace * 5))
    elif kind < 0.45:
        mix = np.clip(across + shift / 2, 0, 1)
    elif kind < 0.65:
        mix = _wave(across * (4 + 10 * pace) + shift)
    elif kind < 0.8:
        mix = _wave(x * (3 + 8 * pace) + shift) * _wave(y * (3 + 8 * pace))
    else:
        mix = _clouds(rng, height, width, 48 + int(pace * 40))
    mix = 0.75 * mix + 0.25 * _clouds(rng, height, width, 6)
    return _channels(first) + _channels(second - first) * mix, [first, second]


def _channels(colour: np.ndarray) -> np.ndarray:
    """[3] -> [3, 1, 1]: a colour against planes."""
    return colour[:, None, None]


def _paint(
    canvas: np.ndarray, outline: np.ndarray, hole: np.ndarray | None, fill: np.ndarray, rng: np.random.Generator
) -> None:
    """Paints one shape into the canvas [3, H, W]: shaded, and two times in three with a darker or lighter rim."""
    height, width = canvas.shape[1:]
    shade, tilt, rim, rim_width = rng.random(4).tolist()
    low = np.clip(np.floor(outline.min(axis=0)).astype(int), 0, (width - 1, height - 1))
    high = np.clip(np.ceil(outline.max(axis=0)).astype(int), low + 1, (width, height))
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    scale = _SUPERSAMPLE_SMALL if max(size) <= _SMALL else _SUPERSAMPLE_LARGE
    curves = [_to_mask(points, low, scale) for points in (outline, hole) if points is not None]
    x = (np.arange(size[0], dtype=np.float32) / size[0] - np.float32(0.5))[None]
    y = (np.arange(size[1], dtype=np.float32) / size[1] - np.float32(0.5))[:, None]
    tilt = 2 * tilt - 1
    light = ((shade - 0.35) * 160) * (tilt * x + (1 - abs(tilt)) * y)
    colour = np.clip(_channels(fill) + light, 0, 255)
    if rim < 2 / 3:
        thickness = max(1.0, (0.02 + 0.04 * rim_width) * max(size))
        tone = fill * np.float32(0.35) if rim < 1 / 3 else fill * np.float32(0.4) + np.float32(153)
        colour += (_channels(tone) - colour) * _edge(size, scale, curves, thickness)
    part = canvas[:, low[1] : high[1], low[0] : high[0]]
    part += (colour - part) * _coverage(size, scale, curves)


def _to_mask(points: np.ndarray, corner: np.ndarray, scale: int) -> list[tuple[float, float]]:
    """Pixel coordinates -> coordinates of the supersampled mask, whose integers are sample centres."""
    return [(x, y) for x, y in ((points - corner) * scale - 0.5).tolist()]


def _coverage(size: tuple[int, int], scale: int, curves: list[list[tuple[float, float]]]) -> np.ndarray:
    """How much of each pixel the first curve covers and the others do not: float32 [H, W] in 0..1."""
    mask = Image.new("L", (size[0] * scale, size[1] * scale))
    pen = ImageDraw.Draw(mask)
    for value, curve in zip((255, 0), curves, strict=False):
        pen.polygon(curve, fill=value)
    return np.asarray(mask.reduce(scale), dtype=np.float32) * np.float32(1 / 255)


def _edge(size: tuple[int, int], scale: int, curves: list[list[tuple[float, float]]], thickness: float) -> np.ndarray:
    """How much of each pixel lies within `thickness` pixels of a curve: float32 [H, W] in 0..1."""
    mask = Image.new("L", (size[0] * scale, size[1] * scale))
    pen = ImageDraw.Draw(mask)
    for curve in curves:
        width = round(2 * thickness * scale)
        if len(curve) <= _CORNERS:
            pen.line([*curve, *curve[:2]], fill=255, width=width, joint="curve")
            continue
        # Rounded joints are slow; along an arc a second line from middle to middle closes the gaps at its vertices.
        middles = [((x0 + x1) / 2, (y0 + y1) / 2) for (x0, y0), (x1, y1) in pairwise([*curve, *curve[:2]])]
        pen.line([*curve, curve[0]], fill=255, width=width)
        pen.line(middles, fill=255, width=width)
    return np.asarray(mask.reduce(scale), dtype=np.float32) * np.float32(1 / 255)
