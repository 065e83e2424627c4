"""Which images make up batch k: a pure function of the data set, the seed and k. NumPy only.

Each group of images (all of them, or the wide and the tall ones) is an endless stream: one seeded permutation an epoch,
one after another, cut into batches. What is left at the end of an epoch begins the next one's first batch: no image is
dropped and none comes twice in an epoch. In what order the groups take turns is shuffled, epoch by epoch. All of it is
closed form, so that a resumed training jumps to its iteration.
"""

from functools import lru_cache

import numpy as np

_ORDER_STREAM, _SHUFFLE_STREAM = 11, 12


def aspect_groups(sizes: np.ndarray, batch_size: int) -> list[np.ndarray]:
    """Positions of the wide and of the tall images among `sizes` [N, 2] (width, height); square ones are wide.

    One group of all images where a size is unknown (0), or where a group would not fill a batch: its images would be
    repeated within a batch, and so few of them cost little padding.
    """
    everything = np.arange(len(sizes))
    if not len(sizes) or (sizes <= 0).any():
        return [everything]
    tall = sizes[:, 1] > sizes[:, 0]
    groups = [everything[~tall], everything[tall]]
    return groups if min(len(group) for group in groups) >= batch_size else [everything]


class BatchPlan:
    """Batches of `batch_size` positions 0..N-1, without end.

    Args:
        groups: disjoint arrays of positions; a batch holds images of one group. None is empty.
        batch_size: images per batch, over all ranks.
        seed: of the permutations.
    """

    def __init__(self, groups: list[np.ndarray], batch_size: int, seed: int) -> None:
        self.groups = groups
        self.batch_size = batch_size
        self.seed = seed
        self._permutation = lru_cache(maxsize=4 * len(groups))(self._make_permutation)
        self._schedule = lru_cache(maxsize=2)(self._make_schedule)

    def __reduce__(self) -> tuple[type, tuple[object, ...]]:
        return BatchPlan, (self.groups, self.batch_size, self.seed)

    def group_of(self, iteration: int) -> tuple[int, int]:
        """(group, number of this batch within the group's stream) of batch `iteration`."""
        epoch = self._epoch(iteration)
        first = self._batches_until(epoch)
        group, number = self._schedule(epoch)[iteration - first]
        return int(group), int(number)

    def batch(self, iteration: int) -> np.ndarray:
        """int64 [batch_size] positions of batch `iteration`."""
        group, number = self.group_of(iteration)
        return self.stream(group, number * self.batch_size, self.batch_size)

    def stream(self, group: int, start: int, count: int) -> np.ndarray:
        """int64 [count] positions of a group's stream from place `start` on."""
        size = len(self.groups[group])
        places = np.arange(start, start + count)
        parts = [
            self._permutation(group, int(epoch)) for epoch in range(start // size, (start + count - 1) // size + 1)
        ]
        return np.concatenate(parts)[places - start // size * size]

    def _make_permutation(self, group: int, epoch: int) -> np.ndarray:
        return self.groups[group][_shuffled(len(self.groups[group]), (_ORDER_STREAM, self.seed, group, epoch))]

    def _batches_until(self, epoch: int) -> int:
        """Batches that are full before `epoch` begins."""
        return sum(len(group) * epoch // self.batch_size for group in self.groups)

    def _epoch(self, iteration: int) -> int:
        """The epoch in which batch `iteration` falls due."""
        images = sum(len(group) for group in self.groups)
        # Each group holds back less than one batch, so the epoch lies at this one or a little later.
        epoch = iteration * self.batch_size // images
        while self._batches_until(epoch + 1) <= iteration:
            epoch += 1
        return epoch

    def _make_schedule(self, epoch: int) -> np.ndarray:
        """int64 [batches, 2] (group, number) of the batches due in `epoch`: groups mixed, numbers ascending."""
        first = [len(group) * epoch // self.batch_size for group in self.groups]
        due = [
            len(group) * (epoch + 1) // self.batch_size - start for group, start in zip(self.groups, first, strict=True)
        ]
        groups = np.repeat(np.arange(len(due)), due)
        groups = groups[_shuffled(len(groups), (_SHUFFLE_STREAM, self.seed, epoch))]
        numbers = np.zeros_like(groups)
        for group, start in enumerate(first):
            numbers[groups == group] = start + np.arange(due[group])
        return np.stack([groups, numbers], axis=1)


def _shuffled(count: int, key: tuple[int, ...]) -> np.ndarray:
    """A permutation of 0..count-1 from uniform doubles, whose stream NumPy keeps stable over its versions."""
    draws = np.random.Generator(np.random.PCG64(np.random.SeedSequence(key))).random(count)
    return np.argsort(draws, kind="stable")
