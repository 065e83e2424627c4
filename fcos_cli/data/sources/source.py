"""The interface of what pixels come from: files, a video, arrays in memory, drawings. Imports no torch.

A new kind of source is one file: a class with `read`, and with what it does otherwise than the defaults here.
"""

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar, Protocol

import numpy as np

from fcos_cli.data.images import resize
from fcos_cli.errors import DataError


class Images(Protocol):
    """What a source is told of the data set whose pixels it gives: the part of `DetectionData` that is no annotation.

    Attributes:
        name: what to call the data set.
        file_names: N names.
        image_ids: int64 [N].
        sizes: int32 [N, 2], width and height in pixels; 0 where unknown.
    """

    @property
    def name(self) -> str: ...

    @property
    def file_names(self) -> Sequence[str]: ...

    @property
    def image_ids(self) -> np.ndarray: ...

    @property
    def sizes(self) -> np.ndarray: ...

    def __len__(self) -> int: ...

    def path(self, index: int) -> Path: ...


class ImageSource(ABC):
    """Gives the pixels of a data set's images; used from several threads, and pickled with the data set for processes.

    Attributes:
        on_disk: whether image i is the file `data.path(i)`.
        about: what a result file should say about the source.
    """

    on_disk: ClassVar[bool] = False
    about: Mapping[str, object] = MappingProxyType({})

    @abstractmethod
    def read(self, data: Images, index: int) -> np.ndarray:
        """Pixels of image `index` of `data`: uint8 [H, W, 3] RGB, upright.

        Raises:
            DataError: the image cannot be read; names it and says why.
        """

    def read_resized(
        self, data: Images, index: int, target: Callable[[int, int], tuple[int, int]], *, draft: bool = False
    ) -> tuple[np.ndarray, tuple[int, int]]:
        """Image `index`, resized (bilinear, antialiased).

        Args:
            data: the data set.
            index: position of the image.
            target: width and height of the original in pixels -> those to resize to.
            draft: quicker and a little less exact, where the source can.

        Returns:
            uint8 [H, W, 3] RGB, C-contiguous; and (width, height) of the original in pixels.

        Raises:
            DataError: as `read`.
        """
        pixels = self.read(data, index)
        height, width = pixels.shape[:2]
        return np.ascontiguousarray(resize(pixels, *target(width, height))), (width, height)

    def expected(self, data: Images) -> int:
        """How many images are likely to come, for a progress bar; 0 where nobody knows."""
        return len(data)


class StreamedSource(ImageSource):
    """A source whose images come one after another, each once, as the frames of a video do.

    `read` gives an image only between its batch and `release`, and only after `keep_originals`.
    """

    def __init__(self) -> None:
        self._keeping = False
        self._kept: dict[int, np.ndarray] = {}
        self._lock = threading.Lock()

    @abstractmethod
    def stream(
        self, data: Images, done: np.ndarray | None, failed: list[tuple[str, str]]
    ) -> Iterator[tuple[int, np.ndarray]]:
        """Index and pixels, uint8 [H, W, 3] RGB, of one image after another.

        Args:
            data: the data set.
            done: bool [len(data)], images to leave out.
            failed: gets (name, reason) where the stream is broken, which ends it.
        """

    def read(self, data: Images, index: int) -> np.ndarray:
        """As `ImageSource.read`, of an image that is kept."""
        with self._lock:
            pixels = self._kept.get(index)
        if pixels is None:
            raise DataError(f"{data.file_names[index]}: frames can be read only in their order")
        return pixels

    def keep_originals(self) -> None:
        """`read` will be called for images that have their batch: keep them in memory, each until `release`."""
        self._keeping = True

    def batched(self, index: int, pixels: np.ndarray) -> None:
        """For the loader to say, as it puts an image into its batch."""
        if self._keeping:
            with self._lock:
                self._kept[index] = pixels

    def release(self, index: int) -> None:
        """Nobody will read image `index` any more."""
        with self._lock:
            self._kept.pop(index, None)
