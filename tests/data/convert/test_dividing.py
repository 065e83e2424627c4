"""A data set divided: shares of images and of classes, copies together, by a seed."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_cli.data.convert.dividing import divide
from fcos_cli.data.formats.named import NamedBox, NamedImage, named_data
from fcos_cli.errors import UsageError

SHARES = {"train": 0.7, "val": 0.2, "test": 0.1}


def data_of(images, classes=3):
    """One image for each list of labels."""
    names = [f"class {label}" for label in range(classes)]
    boxes = [[NamedBox(names[label], (0, 0, 9, 9)) for label in labels] for labels in images]
    made = [NamedImage(f"{i}.jpg", items, (20, 20)) for i, items in enumerate(boxes)]
    return named_data("made", Path("nowhere"), made, names)


def test_every_class_in_the_same_shares():
    """A rare class too: 20 of 1000 images; plain chance would miss by more than one image most of the time."""
    rng = np.random.default_rng(1)
    images = [[0] * int(rng.integers(0, 4)) + [1] * int(rng.integers(0, 2)) + [2] * (i % 50 == 0) for i in range(1000)]
    data = data_of(images)
    parts = divide(data, SHARES)
    for label in range(3):
        total = sum(label in labels for labels in images)
        for name, share in SHARES.items():
            assert abs(sum(label in images[i] for i in parts[name]) - share * total) <= 2
    for name, share in SHARES.items():
        assert abs(len(parts[name]) - share * 1000) <= 5


@settings(max_examples=60, deadline=None)
@given(
    images=st.lists(st.lists(st.integers(0, 2), max_size=3), min_size=3, max_size=40),
    copies=st.lists(st.lists(st.integers(0, 39), min_size=2, max_size=4), max_size=4),
    seed=st.integers(0, 5),
)
def test_each_image_once_and_copies_together(images, copies, seed):
    data = data_of(images)
    copies = [group for group in copies if max(group) < len(images)]
    try:
        parts = divide(data, SHARES, copies, seed=seed)
    except UsageError:
        # Too few groups: each of the joined ones counts once.
        joined = {i: {i} for i in range(len(images))}
        for group in copies:
            together = set().union(*(joined[i] for i in group))
            joined |= dict.fromkeys(together, together)
        assert len({frozenset(group) for group in joined.values()}) < 3
        return
    assert sorted(np.concatenate(list(parts.values())).tolist()) == list(range(len(images)))
    assert all(len(rows) for rows in parts.values())
    for group in copies:
        assert len({name for name, rows in parts.items() if set(group) & set(rows.tolist())}) == 1
    again = divide(data, SHARES, copies, seed=seed)
    assert {name: rows.tolist() for name, rows in parts.items()} == {
        name: rows.tolist() for name, rows in again.items()
    }


def test_another_seed_divides_otherwise():
    data = data_of([[0]] * 40)
    assert divide(data, SHARES, seed=1)["val"].tolist() != divide(data, SHARES, seed=2)["val"].tolist()


def test_too_few_images():
    with pytest.raises(UsageError, match="2 different images for 3 parts"):
        divide(data_of([[0], [1], [1]]), SHARES, [[1, 2]])
