"""Levels inside a Triton kernel: their sizes and pointers come in tuples, and a program finds its own by its number.

Sizes go to kernels as floats, below 2^24, where they are exact: for whole numbers that are 1 or multiples of 16, so for
every size of image, Triton compiles a kernel anew.
"""

# mypy: allow-untyped-defs
import triton
import triton.language as tl


@triton.jit
def at(values, place, LEVELS: tl.constexpr):
    """Entry of a tuple, by a place known when the program runs."""
    value = values[0]
    for level in tl.static_range(1, LEVELS):
        if place == level:
            value = values[level]
    return value


@triton.jit
def level_of(firsts, place, LEVELS: tl.constexpr):
    """The last level whose first program is not after `place`; levels without programs are none."""
    level = 0
    place = place.to(tl.float32)
    for other in tl.static_range(1, LEVELS):
        level = tl.where(place >= firsts[other], other, level)
    return level
