"""How large an image enters the network (docs/method.md, Training: the authors' rule)."""

SIZE_DIVISOR = 32


def resized_size(width: int, height: int, short_side: int, long_side: int) -> tuple[int, int]:
    """Size (width, height) in pixels with the short side at `short_side` and the long side at most `long_side`.

    If max/min * short > long, the short side becomes round(long * min / max); the other side is int(short * ratio).
    Never returns a side of 0.
    """
    smaller, larger = min(width, height), max(width, height)
    short = short_side
    if larger / smaller * short > long_side:
        short = round(long_side * smaller / larger)
    short = max(short, 1)
    other = max(int(short * larger / smaller), 1)
    return (short, other) if width <= height else (other, short)


def padded_size(width: int, height: int, divisor: int = SIZE_DIVISOR) -> tuple[int, int]:
    """Size (width, height) padded at the bottom and right to multiples of `divisor`."""
    return -(-width // divisor) * divisor, -(-height // divisor) * divisor
