"""The interface of formats that data sets are written in. A new one is one file, and its name in `known.py`."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from fcos_cli.data.records import DetectionData


@dataclass(frozen=True)
class Part:
    """One split to write.

    Attributes:
        name: of the split.
        data: its images and boxes.
        images: names of the images in the new data set, relative to its folder, or absolute where they stay.
    """

    name: str
    data: DetectionData
    images: Sequence[str]


@dataclass
class Written:
    """What came of a conversion.

    Attributes:
        images, boxes: written, by split.
        left_out: boxes that the format cannot say, by reason.
        changed: what else differs from the original, a sentence each.
    """

    images: dict[str, int] = field(default_factory=dict)
    boxes: dict[str, int] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    changed: list[str] = field(default_factory=list)


class Target(ABC):
    """A format to write.

    Attributes:
        first_class: the number of the first class, where the format has one list of classes for all splits and numbers
            them itself; None: every split keeps its own.
        one_folder: whether images of all splits lie in one folder.
        nested: whether names of images may hold folders.
        can_refer: whether annotations can name images that lie elsewhere.
    """

    name: ClassVar[str]
    first_class: ClassVar[int | None]
    one_folder: ClassVar[bool] = False
    nested: ClassVar[bool] = False
    can_refer: ClassVar[bool] = False

    @abstractmethod
    def image_folder(self, split: str) -> str:
        """Where the images of a split lie, relative to the data set's folder."""

    def stem(self, stem: str) -> str:
        """A name of an image, without its extension, as the format can hold it."""
        return stem if self.nested else stem.replace("/", "_")

    @abstractmethod
    def write(self, folder: Path, parts: Sequence[Part], written: Written) -> None:
        """Write the annotations of all splits; counts go to `written`.

        Raises:
            DataError: the format cannot say something that must be said.
        """
