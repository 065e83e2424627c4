"""Numbers of levels as kernels take them: in tuples, as floats."""

from collections.abc import Iterable, Sequence
from itertools import accumulate

EXACT = 2**24
"""Whole numbers below are exact in float32: pixels of locations, and sizes that go to kernels as floats."""
MOST_IMAGES = 2**16
"""A launch has fewer programs along its second axis, which images have."""


def begins(sizes: Iterable[int]) -> list[int]:
    """Where each of the consecutive parts begins."""
    return list(accumulate(sizes, initial=0))[:-1]


def floats(*rows: Sequence[float]) -> tuple[tuple[float, ...], ...]:
    """Each row as a tuple of floats: Triton compiles a kernel anew for whole numbers that are 1 or multiples of 16."""
    return tuple(tuple(float(number) for number in row) for row in rows)
