"""Weights with a name: what the tables of published weights hold. Imports no torch."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any, Literal
from urllib.parse import urlsplit

from fcos_cli.recipe.schema import WeightStyle


@dataclass(frozen=True, slots=True)
class Published:
    """Weights with a name.

    Attributes:
        architecture: of the backbone; of those that run here a `BackboneName`.
        urls: where they lie, the preferred place first.
        sha256: the first digits of the file's SHA-256; "" where the publisher names none.
        ap: of a detector on COCO val2017, percent, as published.
        licence: what the publisher says of the weights.
        megabytes: size of the file, or of its tensors; 0 where it is not known.
        lacks: what they need that this toolkit does not have; "" where they run.
        answers: recipe keys that the file does not tell, by dotted name.
    """

    name: str
    kind: Literal["backbone", "detector"]
    architecture: str
    style: WeightStyle
    urls: tuple[str, ...]
    sha256: str = ""
    ap: float | None = None
    licence: str = ""
    megabytes: int = 0
    lacks: str = ""
    answers: Mapping[str, Any] = field(default_factory=dict)

    @property
    def file_name(self) -> str:
        return PurePosixPath(urlsplit(self.urls[0]).path).name
