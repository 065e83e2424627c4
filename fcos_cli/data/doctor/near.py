"""Images that look the same: recompressed, resized, or neighbouring frames of a video.

Each image becomes a difference hash of 64 bits (neighbours among 9x8 gray values compared) and 16x16 gray values. Two
images are near copies where 16 bits of their hashes agree, as one of four parts, and no gray value differs by more
than `MOST_DIFFERENT`: copies differ by compression only, while another object in a picture shows in one cell at least.
Source of the hash: N. Krawetz, "Kind of Like That", hackerfactor.com, 2013.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
from PIL import Image

from fcos_cli.data.images import exif_orientation, open_image, threads
from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError

MOST_DIFFERENT = 8
LEAST_CONTRAST = 3 * MOST_DIFFERENT
"""Of images that are plainer (a blank frame) nobody can tell whether they are copies."""
_SIDE = 32
_PARTS = 4


def fingerprints(data: DetectionData, advance: Callable[[int], None]) -> tuple[np.ndarray, np.ndarray]:
    """What images are compared by: 264 bytes each, so that 118,000 take 31 MB.

    Returns:
        uint64 [N], the hashes; uint8 [N, 256], gray values: all alike for images that cannot be read.
    """

    def look(index: int) -> tuple[int, np.ndarray]:
        try:
            gray = _small(data, index)
        except DataError:
            return 0, np.zeros(256, np.uint8)
        columns = np.asarray(gray.resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
        bits = np.packbits(columns[:, 1:] > columns[:, :-1])
        return int.from_bytes(bits.tobytes(), "big"), np.asarray(gray.resize((16, 16), Image.Resampling.BOX)).ravel()

    hashes = np.zeros(len(data), np.uint64)
    cells = np.zeros((len(data), 256), np.uint8)
    with ThreadPoolExecutor(max_workers=threads()) as pool:
        for index, (number, values) in enumerate(pool.map(look, range(len(data)))):
            hashes[index], cells[index] = number, values
            advance(1)
    return hashes, cells


def _small(data: DetectionData, index: int) -> Image.Image:
    """The image in gray, 32x32, upright."""
    gray = open_image(data.path(index), _small_jpeg) if data.source.on_disk else None
    if gray is None:
        pixels, _ = data.source.read_resized(data, index, lambda width, height: (_SIDE, _SIDE))
        gray = Image.fromarray(pixels).convert("L")
    return gray


def _small_jpeg(image: Image.Image) -> Image.Image | None:
    """By JPEG's own reduced decoding, several times quicker; None where the file is no upright JPEG."""
    if image.format != "JPEG" or exif_orientation(image) != 1:
        return None
    width, height = image.size
    reduced = image.draft("L", (2 * _SIDE, 2 * _SIDE))
    scale = 1 if reduced is None else -(-max(width, height) // max(image.size))
    # The last row and column of the reduced image may stand for less than a whole block.
    box = (0, 0, min(width / scale, image.width), min(height / scale, image.height))
    return image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BILINEAR, box)


def near_copies(hashes: np.ndarray, cells: np.ndarray) -> list[list[int]]:
    """Positions of images that look the same, in groups of two and more.

    Args:
        hashes: uint64 [N].
        cells: uint8 [N, 256].
    """
    groups = _Groups(len(hashes))
    contrast = cells.max(axis=1).astype(np.int16) - cells.min(axis=1)
    candidates = np.flatnonzero(contrast >= LEAST_CONTRAST)
    means = cells.mean(axis=1)
    width = 64 // _PARTS
    for part in range(_PARTS):
        keys = (hashes[candidates] >> np.uint64(width * part)) & np.uint64((1 << width) - 1)
        # Within a key by mean: no two copies differ by more than the limit in it.
        order = candidates[np.lexsort((means[candidates], keys))]
        sorted_keys = np.sort(keys)
        starts = np.flatnonzero(np.diff(sorted_keys, prepend=np.uint64(1 << width))).tolist()
        for start, end in pairwise([*starts, order.size]):
            _join(order[start:end], cells, means, groups)
    return groups.of_several()


def _join(run: np.ndarray, cells: np.ndarray, means: np.ndarray, groups: "_Groups") -> None:
    for position in range(len(run) - 1):
        own = run[position]
        last = int(np.searchsorted(means[run], means[own] + MOST_DIFFERENT, side="right"))
        others = run[position + 1 : last]
        if not others.size:
            continue
        apart = np.abs(cells[others].astype(np.int16) - cells[own]).max(axis=1)
        for other in others[apart <= MOST_DIFFERENT].tolist():
            groups.join(int(own), other)


class _Groups:
    """Which positions belong together (union-find)."""

    def __init__(self, count: int) -> None:
        self._leader = list(range(count))

    def _find(self, index: int) -> int:
        while self._leader[index] != index:
            self._leader[index] = self._leader[self._leader[index]]
            index = self._leader[index]
        return index

    def join(self, one: int, other: int) -> None:
        a, b = sorted((self._find(one), self._find(other)))
        self._leader[b] = a

    def of_several(self) -> list[list[int]]:
        members: dict[int, list[int]] = {}
        for index in range(len(self._leader)):
            members.setdefault(self._find(index), []).append(index)
        return [group for group in members.values() if len(group) > 1]
