"""One case of a benchmark: our op, its rivals, the bytes that must move, and a check that comes before any clock."""

from collections.abc import Callable
from dataclasses import dataclass, field

from fcos_kernels.bench.timing import Work


@dataclass(frozen=True)
class Case:
    """One op at one size.

    Attributes:
        bytes: read and written at the least.
        ours: runs our op.
        rivals: name -> the same done otherwise.
        compare: raises AssertionError unless all agree.
    """

    op: str
    size: str
    bytes: int
    ours: Work
    compare: Callable[[], None]
    rivals: dict[str, Work] = field(default_factory=dict)
