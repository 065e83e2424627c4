"""The plan of batches: every image once an epoch, nothing dropped, random access equal to walking."""

import pickle
from itertools import count, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_cli.data.loading.sampling import BatchPlan, aspect_groups


def split(images: int, wide: int) -> list[np.ndarray]:
    order = np.random.default_rng(images).permutation(images)
    return [part for part in (order[:wide], order[wide:]) if len(part)]


@settings(max_examples=60, deadline=None)
@given(images=st.integers(1, 60), wide=st.integers(0, 60), batch=st.integers(1, 20), seed=st.integers(0, 3))
def test_no_image_is_lost_or_comes_twice_in_an_epoch(images, wide, batch, seed):
    groups = split(images, min(wide, images))
    plan = BatchPlan(groups, batch, seed)
    epochs = 4
    seen: list[dict[int, list[int]]] = [{} for _ in groups]
    for iteration in range(images * epochs // batch):
        group, number = plan.group_of(iteration)
        assert number not in seen[group]
        members = plan.batch(iteration).tolist()
        assert len(members) == batch
        assert set(members) <= set(groups[group].tolist())
        seen[group][number] = members
    for group, batches in enumerate(seen):
        assert sorted(batches) == list(range(len(batches)))
        stream = [position for number in sorted(batches) for position in batches[number]]
        size = len(groups[group])
        for start in range(0, len(stream) - size + 1, size):
            assert sorted(stream[start : start + size]) == sorted(groups[group].tolist())
    # Less than one batch of each group waits for the next epoch.
    drawn = sum(len(batches) for batches in seen) * batch
    assert images * epochs - drawn < batch * (len(groups) + 1)


def test_each_epoch_has_its_own_order():
    plan = BatchPlan([np.arange(64)], 64, 0)
    first, second = plan.batch(0).tolist(), plan.batch(1).tolist()
    assert sorted(first) == sorted(second) == list(range(64))
    assert first != second
    assert first != BatchPlan([np.arange(64)], 64, 1).batch(0).tolist()


def test_any_iteration_without_the_ones_before():
    groups = split(5003, 3000)
    walked = BatchPlan(groups, 16, 7)
    batches = [walked.batch(iteration) for iteration in range(700)]
    for iteration in (699, 0, 312, 313, 625):
        assert np.array_equal(BatchPlan(groups, 16, 7).batch(iteration), batches[iteration])
    far = BatchPlan(split(118_287, 80_000), 16, 0)
    assert np.array_equal(far.batch(179_999), pickle.loads(pickle.dumps(far)).batch(179_999))


def test_groups_mix_within_an_epoch():
    plan = BatchPlan([np.arange(320), np.arange(320, 640)], 16, 0)
    order = [plan.group_of(iteration)[0] for iteration in range(40)]
    assert sum(order) == 20
    assert 10 < sum(a != b for a, b in pairwise(order)) < 35


def test_fewer_images_than_a_batch_repeat():
    plan = BatchPlan([np.arange(3)], 8, 0)
    stream = np.concatenate([plan.batch(iteration) for iteration in range(3)])
    assert (np.bincount(stream) == 8).all()


def test_order_does_not_depend_on_numpy_versions():
    """Written out: argsort of PCG64's uniform doubles, as the plan promises."""
    draws = np.random.Generator(np.random.PCG64(np.random.SeedSequence((11, 5, 0, 2)))).random(6)
    assert BatchPlan([np.arange(6)], 6, 5).batch(2).tolist() == sorted(range(6), key=draws.__getitem__)
    assert BatchPlan([np.arange(6)], 6, 5).batch(0).tolist() == [1, 0, 3, 2, 5, 4]


@pytest.mark.parametrize(
    ("sizes", "batch", "groups"),
    [
        ([(4, 3), (3, 4), (5, 5), (2, 9)], 2, [[0, 2], [1, 3]]),
        ([(4, 3), (3, 4), (5, 5), (2, 9)], 3, [[0, 1, 2, 3]]),
        ([(4, 3), (0, 0), (3, 4)], 1, [[0, 1, 2]]),
        ([(4, 3), (5, 3)], 1, [[0, 1]]),
    ],
    ids=["wide and tall", "too few tall ones", "unknown size", "no tall ones"],
)
def test_groups_by_aspect(sizes, batch, groups):
    found = aspect_groups(np.array(sizes), batch)
    assert [group.tolist() for group in found] == groups


def test_an_epoch_is_found_at_any_iteration():
    plan = BatchPlan([np.arange(17), np.arange(17, 22)], 4, 0)
    ends = [17 * epoch // 4 + 5 * epoch // 4 for epoch in range(1, 50)]
    epoch_of = iter(count())
    epoch = next(epoch_of)
    for iteration in range(200):
        while iteration >= ends[epoch]:
            epoch = next(epoch_of)
        assert plan._epoch(iteration) == epoch
