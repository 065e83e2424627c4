"""Pixels of the built-in data set: a textured ground, then the shapes in painter's order, with smooth edges.

Arithmetic is kept to what IEEE 754 and Pillow's integer code fix exactly, so that an image is the same everywhere.
"""

import numpy as np
from PIL import Image, ImageDraw

from fcos_cli.data.shapes_layout import Layout

PIXEL_STREAM = 2
NOISE = 10.0
_COLOUR_TRIES = 8
_SUPERSAMPLE_SMALL, _SUPERSAMPLE_LARGE, _SMALL = 8, 4, 32
# How much red, green and blue differ to the eye.
_EYE = np.array([0.55, 0.75, 0.36], dtype=np.float32)


def draw_image(layout: Layout, image: int, key: tuple[int, ...]) -> np.ndarray:
    """uint8 [H, W, 3] RGB: image `image` of the layout. The same key gives the same pixels."""
    rng = np.random.Generator(np.random.PCG64(np.random.SeedSequence([PIXEL_STREAM, *key])))
    width, height = (int(side) for side in layout.sizes[image])
    canvas, grounds = _ground(rng, height, width)
    rows = range(int(layout.offsets[image]), int(layout.offsets[image + 1]))
    fills: list[np.ndarray] = []
    for row in rows:
        below = [
            fills[i] for i, other in enumerate(rows[: len(fills)]) if _touch(layout.boxes[row], layout.boxes[other])
        ]
        fills.append(_contrasting(rng, [*grounds, *below]))
        _paint(canvas, *layout.outline(row), fills[-1], rng)
    canvas += (rng.random((height, width, 1), dtype=np.float32) - np.float32(0.5)) * np.float32(NOISE)
    return np.clip(canvas, 0, 255).astype(np.uint8)


def _touch(a: np.ndarray, b: np.ndarray) -> bool:
    return bool(max(a[0], b[0]) < min(a[2], b[2]) and max(a[1], b[1]) < min(a[3], b[3]))


def _contrasting(rng: np.random.Generator, others: list[np.ndarray]) -> np.ndarray:
    """The random colour that lies farthest from the nearest of `others`."""
    tries = rng.random((_COLOUR_TRIES, 3), dtype=np.float32) * 255
    # Away from grey: a strong channel and a weak one make a colour that is nice to look at.
    tries = np.clip((tries - 128) * np.float32(1.5) + 128, 0, 255)
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
    """A textured ground, float32 [H, W, 3], and the two colours that it lies between."""
    y = np.arange(height, dtype=np.float32)[:, None] / np.float32(160)
    x = np.arange(width, dtype=np.float32)[None] / np.float32(160)
    first = rng.random(3, dtype=np.float32) * 200 + np.float32(28)
    second = np.clip(first + (rng.random(3, dtype=np.float32) - np.float32(0.5)) * 130, 10, 245)
    kind, slope, pace, shift = rng.random(4, dtype=np.float32)
    across = (slope * 2 - 1) * x + (1 - np.abs(slope * 2 - 1)) * y
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
    mix = np.float32(0.75) * mix + np.float32(0.25) * _clouds(rng, height, width, 6)
    return first + (second - first) * mix[..., None], [first, second]


def _paint(
    canvas: np.ndarray, outline: np.ndarray, hole: np.ndarray | None, fill: np.ndarray, rng: np.random.Generator
) -> None:
    """Paints one shape into the canvas, in place: shaded, and for two shapes in three with a darker or lighter rim."""
    height, width = canvas.shape[:2]
    shade, tilt, rim, rim_width = rng.random(4, dtype=np.float32)
    low = np.clip(np.floor(outline.min(axis=0)).astype(int), 0, (width - 1, height - 1))
    high = np.clip(np.ceil(outline.max(axis=0)).astype(int), low + 1, (width, height))
    size = (int(high[0] - low[0]), int(high[1] - low[1]))
    scale = _SUPERSAMPLE_SMALL if max(size) <= _SMALL else _SUPERSAMPLE_LARGE
    curves = [_to_mask(points, low, scale) for points in (outline, hole) if points is not None]
    alpha = _coverage(size, scale, curves)
    x = np.linspace(-1, 1, size[0], dtype=np.float32)[None]
    y = np.linspace(-1, 1, size[1], dtype=np.float32)[:, None]
    light = (shade - np.float32(0.3)) * 50 * ((tilt * 2 - 1) * x + (1 - np.abs(tilt * 2 - 1)) * y)
    colour = np.clip(fill + light[..., None], 0, 255)
    if rim < 2 / 3:
        thickness = max(1.0, (0.02 + 0.04 * float(rim_width)) * max(size))
        edge = _edge(size, scale, curves, thickness)[..., None]
        tone = fill * np.float32(0.35) if rim < 1 / 3 else fill * np.float32(0.4) + np.float32(153)
        colour += (tone - colour) * edge
    part = canvas[low[1] : high[1], low[0] : high[0]]
    part += (colour - part) * alpha[..., None]


def _to_mask(points: np.ndarray, corner: np.ndarray, scale: int) -> list[tuple[float, float]]:
    """Pixel coordinates -> coordinates of the supersampled mask, whose integers are sample centres."""
    moved = (points - corner) * scale - 0.5
    return [(float(x), float(y)) for x, y in moved]


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
        pen.line([*curve, curve[0], curve[1]], fill=255, width=round(2 * thickness * scale), joint="curve")
    return np.asarray(mask.reduce(scale), dtype=np.float32) * np.float32(1 / 255)
