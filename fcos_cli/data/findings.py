"""What a data set holds and a reader did not use, or read otherwise than it is written: counted, with examples.

Readers put it into `Findings` and go on; `DetectionData` carries it; `fcos data check` and the start of a training show
it, and `--strict` makes each of it an error.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any

EXAMPLES = 3


class Weight(Enum):
    """What a finding means for the user."""

    NOTE = "note"
    """A choice that was made, to be known."""
    WARNING = "warning"
    """Something was left out or changed, and the rest can be used."""
    ERROR = "error"
    """The data cannot be used as they are."""


@dataclass(frozen=True)
class Kind:
    """A kind of finding.

    Attributes:
        text: what was found, in the plural, such as "label files without an image".
        weight: what it means.
        boxes: whether boxes were left out; then the text says which.
    """

    text: str
    weight: Weight = Weight.WARNING
    boxes: bool = False


@dataclass(frozen=True)
class Finding:
    """How often something was found, and where: the first few places, such as "labels/a.txt:3: not numbers: cat"."""

    kind: Kind
    count: int
    examples: tuple[str, ...] = ()

    @property
    def line(self) -> str:
        """One line for people."""
        text = f"left out: {self.kind.text}" if self.kind.boxes else self.kind.text
        more = "; ..." if self.count > len(self.examples) == EXAMPLES else ""
        return f"{text} ({self.count:,})" + (f": {'; '.join(self.examples)}{more}" if self.examples else "")

    def to_json(self) -> dict[str, Any]:
        """As a plain dictionary."""
        return {
            "what": self.kind.text,
            "weight": self.kind.weight.value,
            "count": self.count,
            "examples": list(self.examples),
        }


class Findings:
    """Collects findings, in the order in which their kinds first come."""

    def __init__(self, found: Iterable[Finding] = ()) -> None:
        self._counts: dict[Kind, int] = {}
        self._examples: dict[Kind, list[str]] = {}
        self.extend(found)

    def add(self, kind: Kind, *examples: str, count: int | None = None) -> None:
        """One more for each example, or `count` more; the first `EXAMPLES` examples of a kind are kept."""
        more = len(examples) if count is None else count
        if more:
            self._counts[kind] = self._counts.get(kind, 0) + more
            kept = self._examples.setdefault(kind, [])
            kept += examples[: EXAMPLES - len(kept)]

    def extend(self, found: Iterable[Finding]) -> None:
        """All of these as well."""
        for finding in found:
            self.add(finding.kind, *finding.examples, count=finding.count)

    def __iter__(self) -> Iterator[Finding]:
        return (Finding(kind, count, tuple(self._examples[kind])) for kind, count in self._counts.items())


def lines(found: Iterable[Finding], weight: Weight, *, strict: bool = False) -> list[str]:
    """The lines of one weight. `strict` counts warnings among the errors."""
    weighs = {Weight.WARNING: Weight.ERROR} if strict else {}
    return [finding.line for finding in found if weighs.get(finding.kind.weight, finding.kind.weight) is weight]
