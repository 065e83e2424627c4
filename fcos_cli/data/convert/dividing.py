"""One data set into train, val and test: each class in the same shares, copies of an image on one side.

Iterative stratification: the class with the fewest images left goes first, each of its images to the part that wants it
most. Source: Sechidis, Tsoumakas and Vlahavas, "On the Stratification of Multi-label Data", ECML PKDD 2011.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from fcos_cli.data.records import DetectionData
from fcos_cli.errors import UsageError


def divide(
    data: DetectionData, shares: Mapping[str, float], copies: Sequence[Sequence[int]] = (), *, seed: int = 0
) -> dict[str, np.ndarray]:
    """Which images go where.

    Args:
        data: the data set.
        shares: parts and their shares of the images, which add up to 1.
        copies: groups of images that must not be parted.
        seed: of the order in which images are taken.

    Returns:
        int64 positions of the images of each part, ascending; every image is in one.

    Raises:
        UsageError: there are fewer images (a group of copies counts as one) than parts.
    """
    group_of = _groups(len(data), copies)
    count = int(group_of.max(initial=-1)) + 1
    if count < len(shares):
        raise UsageError(f"{data.name} has {count} different images for {len(shares)} parts", "divide more images")
    classes = np.zeros((count, len(data.categories)), dtype=np.int64)
    image_of = np.repeat(np.arange(len(data)), np.diff(data.offsets))
    present = np.unique(np.column_stack([image_of, data.labels])[~data.crowd], axis=0)
    np.add.at(classes, (group_of[present[:, 0]], present[:, 1]), 1)
    sizes = np.bincount(group_of, minlength=count)
    part_of = _assign(classes, sizes, np.array(list(shares.values())), np.random.default_rng(seed))
    _fill_empty(part_of, sizes, len(shares))
    return {name: np.flatnonzero(part_of[group_of] == part) for part, name in enumerate(shares)}


def _groups(images: int, copies: Sequence[Sequence[int]]) -> np.ndarray:
    """int64 [N], a number for each image; copies share one."""
    leader = np.arange(images)
    for group in copies:
        touched = np.isin(leader, leader[list(group)])
        leader[touched] = leader[touched].min()
    return np.unique(leader, return_inverse=True)[1].astype(np.int64)


def _assign(classes: np.ndarray, sizes: np.ndarray, shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """int64 [G], the part of each group. `classes` [G, C] counts a group's images with each class, `sizes` [G] all."""
    part_of = np.full(len(sizes), -1)
    wanted = shares[:, None] * classes.sum(axis=0)
    room = shares * sizes.sum()
    order = rng.permutation(len(sizes))
    left = classes.sum(axis=0)
    while (left > 0).any():
        rarest = int(np.flatnonzero(left == left[left > 0].min())[0])
        for group in order[(part_of[order] < 0) & (classes[order, rarest] > 0)]:
            part = _most_wanted(wanted[:, rarest], room)
            part_of[group] = part
            wanted[part] -= classes[group]
            room[part] -= sizes[group]
            left = left - classes[group]
    for group in order[part_of[order] < 0]:
        part = int(room.argmax())
        part_of[group] = part
        room[part] -= sizes[group]
    return part_of


def _most_wanted(wanted: np.ndarray, room: np.ndarray) -> int:
    """The part that lacks most images of a class; of several, the one with most room."""
    best = np.flatnonzero(wanted >= wanted.max() - 1e-9)
    return int(best[room[best].argmax()])


def _fill_empty(part_of: np.ndarray, sizes: np.ndarray, parts: int) -> None:
    """A part that got nothing, its share being less than one image, takes the smallest group of the largest part."""
    for part in range(parts):
        if not (part_of == part).any():
            largest = int(np.bincount(part_of, weights=sizes, minlength=parts).argmax())
            groups = np.flatnonzero(part_of == largest)
            part_of[groups[sizes[groups].argmin()]] = part
