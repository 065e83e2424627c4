"""Boxes on images: one picture with its detections, and sheets of many. Pillow only, with the font it brings."""

import colorsys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]
Rectangle = tuple[float, float, float, float]
Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

_GOLDEN = 0.618034
_PAPER: Colour = (250, 250, 248)
_INK: Colour = (40, 40, 44)
_TRUTH: Colour = (255, 255, 255)


@dataclass(frozen=True)
class Tile:
    """One image of a contact sheet.

    Attributes:
        pixels: uint8 [H, W, 3] RGB.
        boxes: [D, 4] xyxy in pixels of the image: detections.
        labels: [D] positions in `names`.
        scores: [D]; None for annotations.
        truth_boxes: [G, 4] xyxy: the annotations, drawn dashed; None where there are none to show.
        title: a line below the image.
    """

    pixels: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray | None = None
    truth_boxes: np.ndarray | None = None
    title: str = ""


def colour_of(label: int) -> Colour:
    """The colour of a class: the same in every picture, neighbours far apart in hue, three levels of lightness."""
    hue = (0.58 + label * _GOLDEN) % 1.0
    lightness = (0.52, 0.40, 0.64)[label % 3]
    red, green, blue = colorsys.hls_to_rgb(hue, lightness, 0.85)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_boxes(
    pixels: np.ndarray,
    boxes: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    scores: np.ndarray | None = None,
    *,
    truth_boxes: np.ndarray | None = None,
) -> Image.Image:
    """A copy of an image with its boxes, the best on top.

    Args:
        pixels: uint8 [H, W, 3] RGB.
        boxes: [D, 4] xyxy in pixels.
        labels: [D] positions in `names`.
        names: of the classes.
        scores: [D], written behind the names; None for annotations.
        truth_boxes: [G, 4] xyxy drawn thin and dashed, without names.
    """
    picture = Image.fromarray(np.ascontiguousarray(pixels)).convert("RGB")
    _overlay(picture, boxes, labels, names, scores, truth_boxes)
    return picture


def contact_sheet(
    tiles: Sequence[Tile], names: Sequence[str], *, columns: int | None = None, tile_size: int = 360, title: str = ""
) -> Image.Image:
    """Many images in a grid: detections in their class's colour, annotations in dashed white.

    Args:
        tiles: at least one.
        names: of the classes.
        columns: of the grid; None makes it about as wide as a screen.
        tile_size: the longer side of each image in pixels; small images are enlarged before the boxes are drawn.
        title: a line above the grid.
    """
    if not tiles:
        raise ValueError("a contact sheet needs at least one image")
    columns = min(columns or max(1, round((len(tiles) * 1.5) ** 0.5)), len(tiles))
    rows = -(-len(tiles) // columns)
    gap = max(8, tile_size // 36)
    small, large = _font(max(12, tile_size // 26)), _font(max(15, tile_size // 18))
    caption = _line_height(small) + gap // 2 if any(tile.title for tile in tiles) else 0
    pictures = [_scaled(tile, names, tile_size) for tile in tiles]
    heights = [max(p.height for p in pictures[row * columns : (row + 1) * columns]) + caption for row in range(rows)]
    legend = "solid: detections    dashed: annotations" if any(tile.truth_boxes is not None for tile in tiles) else ""
    top = gap + (_line_height(large) + gap if title or legend else 0)
    width = gap + columns * (tile_size + gap)
    sheet = Image.new("RGB", (width, top + sum(heights) + rows * gap), _PAPER)
    pen = ImageDraw.Draw(sheet)
    pen.text((gap, gap), title, fill=_INK, font=large)
    pen.text((width - gap - pen.textlength(legend, font=small), gap), legend, fill=_INK, font=small)
    for position, (tile, picture) in enumerate(zip(tiles, pictures, strict=True)):
        row, column = divmod(position, columns)
        x = gap + column * (tile_size + gap) + (tile_size - picture.width) // 2
        y = top + sum(heights[:row]) + row * gap + (heights[row] - caption - picture.height) // 2
        sheet.paste(picture, (x, y))
        if tile.title:
            line = _shortened(pen, tile.title, small, tile_size)
            left = gap + column * (tile_size + gap) + (tile_size - pen.textlength(line, font=small)) / 2
            pen.text((left, y + picture.height + gap // 4), line, fill=_INK, font=small)
    return sheet


def save_picture(picture: Image.Image, path: str | Path) -> None:
    """Write a picture (.png, or .jpg at quality 92); makes the folder where it is missing.

    Raises:
        OSError: it cannot be written.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    options = {"quality": 92, "subsampling": 0} if path.suffix.lower() in (".jpg", ".jpeg") else {"optimize": True}
    picture.save(path, **options)


def _scaled(tile: Tile, names: Sequence[str], size: int) -> Image.Image:
    """The tile's picture, its longer side `size` pixels; boxes are drawn after scaling, so that lines stay sharp."""
    image = Image.fromarray(np.ascontiguousarray(tile.pixels)).convert("RGB")
    ratio = size / max(image.size)
    smooth = Image.Resampling.BICUBIC if ratio > 1 else Image.Resampling.LANCZOS
    image = image.resize((max(1, round(image.width * ratio)), max(1, round(image.height * ratio))), smooth)
    truth = None if tile.truth_boxes is None else np.asarray(tile.truth_boxes) * ratio
    _overlay(image, np.asarray(tile.boxes) * ratio, tile.labels, names, tile.scores, truth)
    return image


def _overlay(
    picture: Image.Image,
    boxes: np.ndarray,
    labels: np.ndarray,
    names: Sequence[str],
    scores: np.ndarray | None,
    truth: np.ndarray | None,
) -> None:
    pen = ImageDraw.Draw(picture)
    side = min(picture.size)
    line = max(2, round(side / 180))
    font = _font(int(np.clip(side / 34, 10, 36)))
    boxes = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
    order = list(range(len(boxes)) if scores is None else np.argsort(scores, kind="stable"))
    for row in order:
        # A dark rim keeps the line visible on a background of its own colour.
        _frame(pen, boxes[row], (0, 0, 0), line, grow=1)
        _frame(pen, boxes[row], colour_of(int(labels[row])), line)
    for box in () if truth is None else np.asarray(truth, dtype=np.float64).reshape(-1, 4):
        _dashed(pen, box, dash=max(3, side // 70))
    taken: list[Rectangle] = []
    for row in reversed(order):
        label = int(labels[row])
        text = names[label] if scores is None else f"{names[label]} {float(scores[row]):.2f}"
        _tag(pen, picture.size, boxes[row], text, colour_of(label), font, taken)


def _frame(pen: ImageDraw.ImageDraw, box: np.ndarray, colour: Colour, width: int, grow: int = 0) -> None:
    x0, y0, x1, y1 = (float(value) for value in box)
    x1, y1 = max(x0, x1 - 1), max(y0, y1 - 1)
    pen.rectangle((x0 - grow, y0 - grow, x1 + grow, y1 + grow), outline=colour, width=width + 2 * grow)


def _dashed(pen: ImageDraw.ImageDraw, box: np.ndarray, dash: int) -> None:
    """A thin frame of white dashes with dark ends, readable on any image, that leaves a frame below it visible."""
    x0, y0, x1, y1 = (float(value) for value in box)
    corners = [(x0, y0), (x1 - 1, y0), (x1 - 1, y1 - 1), (x0, y1 - 1), (x0, y0)]
    for (ax, ay), (bx, by) in pairwise(corners):
        steps = max(1, round(max(abs(bx - ax), abs(by - ay)) / dash))
        for step in range(0, steps, 2):
            start, end = step / steps, (step + 1) / steps
            ends = (ax + (bx - ax) * start, ay + (by - ay) * start, ax + (bx - ax) * end, ay + (by - ay) * end)
            pen.line(ends, fill=_TRUTH, width=1)
            pen.point((*ends[:2], *ends[2:]), fill=(0, 0, 0))


def _tag(
    pen: ImageDraw.ImageDraw,
    size: tuple[int, int],
    box: np.ndarray,
    text: str,
    colour: Colour,
    font: Font,
    taken: list[Rectangle],
) -> None:
    """The name on its colour, at the first free place along the box's edges.

    Where every place is taken by a better detection's name, it is left out: names on names cannot be read, the frame's
    colour still tells the class.
    """
    pad = 2
    width, height = pen.textlength(text, font=font) + 2 * pad, _line_height(font) + pad
    x0, y0, x1, y1 = (float(value) for value in box)
    room_x, room_y = max(0.0, size[0] - width), max(0.0, size[1] - height)
    for x, y in ((x0, y0 - height), (x0, y0), (x0, y1), (x1 - width, y0 - height), (x1, y0), (x1 - width, y1 - height)):
        if not -1 <= y <= room_y:
            continue
        place = (min(max(0.0, x), room_x), y, min(max(0.0, x), room_x) + width, y + height)
        if not any(_overlap(place, other) for other in taken):
            break
    else:
        if taken:
            return
        place = (min(max(0.0, x0), room_x), min(max(0.0, y0), room_y), min(max(0.0, x0), room_x) + width, y0 + height)
    taken.append(place)
    pen.rectangle(place, fill=colour)
    pen.text((place[0] + pad, place[1]), text, fill=_text_colour(colour), font=font)


def _overlap(a: Rectangle, b: Rectangle) -> bool:
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def _text_colour(background: Colour) -> Colour:
    """Black or white, whichever has more contrast (relative luminance, WCAG 2)."""
    red, green, blue = ((c / 255) ** 2.2 for c in background)
    return (0, 0, 0) if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 0.18 else (255, 255, 255)


def _font(size: int) -> Font:
    return ImageFont.load_default(size=size)


def _line_height(font: Font) -> int:
    _, top, _, bottom = font.getbbox("Ågjpq|")
    return round(bottom + min(top, 2))


def _shortened(pen: ImageDraw.ImageDraw, text: str, font: Font, width: int) -> str:
    while len(text) > 4 and pen.textlength(text, font=font) > width:
        text = text[: -5 if text.endswith("...") else -2] + "..."
    return text
