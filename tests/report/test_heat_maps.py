from math import inf

import numpy as np
import pytest

from fcos_cli.report.heat_maps import bands, collisions

FPN = [("P3", 0, 64), ("P4", 64, 128), ("P5", 128, 256), ("P6", 256, 512), ("P7", 512, None)]


def rows(ranges):
    return [{"name": name, "lower": float(lower), "upper": upper} for name, lower, upper in ranges]


def test_bands_of_the_pyramid():
    assert bands(rows(FPN)) == [
        (0, 64, "P3"),
        (64, 128, "P3 P4"),
        (128, 256, "P4 P5"),
        (256, 512, "P5 P6"),
        (512, 1024, "P6 P7"),
        (1024, inf, "P7"),
    ]


@pytest.mark.parametrize(
    "ranges", [[], FPN, [("P4", 0, None)], [("P3", 16, 20), ("P4", 100, 300)], [("P3", 0, 90), ("P4", 30, 70)]]
)
def test_bands_hold_the_levels_that_take_a_location(ranges):
    found = bands(rows(ranges))
    assert [lower for lower, *_ in found] == [0, *(upper for _, upper, _ in found[:-1])]
    assert found[-1][1] == inf
    for longer in np.random.default_rng(0).uniform(1, 2000, 300):
        # The farthest side of a location inside, from the middle of the box to its rim.
        farthest = np.linspace(longer / 2, longer, 5001)[:-1]
        wanted = [n for n, low, high in ranges if ((farthest > low) & (farthest < (high or inf))).any()]
        (names,) = (names for lower, upper, names in found if lower < longer <= upper)
        assert names == (" ".join(wanted) or "none")


def pair(winner, loser, locations):
    return {"winner": winner, "loser": loser, "locations": locations}


def test_collisions_have_winners_as_rows():
    names, matrix = collisions([pair("a", "b", 5), pair("b", "b", 9), pair("a", "b", 1)])
    assert names == ["b", "a"]
    assert matrix.tolist() == [[9, 0], [6, 0]]


def test_classes_that_collide_least_are_summed_up():
    pairs = [pair(f"c{i:02}", f"c{(i + 1) % 30:02}", 1000 - i) for i in range(30)]
    names, matrix = collisions(pairs)
    assert len(names) == 21
    assert names[-1] == "10 other classes"
    assert matrix.sum() == sum(row["locations"] for row in pairs)
    assert matrix[-1, -1] == sum(1000 - i for i in range(20, 29))
