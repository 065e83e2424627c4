import re
from dataclasses import replace

import numpy as np
import pytest

from fcos_cli.geometry.pyramid import build_pyramid
from fcos_cli.recipe.load import load_recipe
from fcos_cli.recipe.schema import Recipe
from fcos_cli.stats.advice import REASONS, advise, changes, recipe_overrides, why_missed
from fcos_cli.stats.boxes import Setting
from fcos_cli.stats.coverage import cover

P3 = Setting(build_pyramid([3]), 64, 64)


def reasons(data, setting):
    coverage = cover(data, setting)
    return dict(zip(coverage.missed.tolist(), why_missed(coverage).tolist(), strict=True))


def test_each_reason(make_data):
    """P3 of a 64 x 64 image: locations 4, 12, ... 60; two levels with a gap between their ranges for `outside`."""
    boxes = [
        (0, 13, 13, 19, 19),  # between 12 and 20
        (1, 1, 1, 7, 7),  # has the location 4, 4; the next two are smaller
        (2, 2, 2, 6, 6),
        (2, 2, 2, 6, 6),  # the same once more
        (0, 20, 20, 60, 60),
    ]
    assert reasons(make_data([(64, 64, boxes)]), P3) == {0: "between", 1: "covered", 3: "repeated"}
    gap = replace(P3, pyramid=build_pyramid([3, 4], [(0, 10), (40, 64)]))
    # Its largest distance lies between 12 and 24: within no range.
    assert reasons(make_data([(64, 64, [(0, 20, 20, 44, 44)])]), gap) == {0: "outside"}
    # 20 and 40: a location in its middle, at 32, would be within neither.
    assert reasons(make_data([(64, 64, [(0, 12, 12, 52, 52)])]), gap) == {0: "outside"}


def test_equal_boxes_in_two_images_are_not_repeated(make_data):
    image = (64, 64, [(2, 2, 2, 6, 6), (1, 1, 1, 7, 7)])
    assert reasons(make_data([image, image]), P3) == {1: "covered", 3: "covered"}


def test_a_box_that_fits_a_range_on_one_level_only_falls_between_its_locations(make_data):
    """6 pixels wide: P3 misses it, P4 has the location 8, 8 in it, but P4 starts at 64."""
    setting = Setting(build_pyramid([3, 4]), 64, 64)
    assert reasons(make_data([(64, 64, [(0, 5, 5, 11, 11)])]), setting) == {0: "between"}


def test_gains_are_those_of_a_fresh_count(make_data):
    rng = np.random.default_rng(0)
    images = []
    for _ in range(8):
        corners = rng.integers(0, 500, (40, 2))
        rows = np.concatenate([rng.integers(0, 3, (40, 1)), corners, corners + rng.integers(2, 40, (40, 2))], axis=1)
        images.append((600, 600, [tuple(r) for r in rows.tolist()]))
    data, setting = make_data(images), Setting(short_side=300, long_side=400)
    seen = []

    def covered(chosen):
        seen.append(chosen)
        return cover(data, chosen)

    advice = advise(data, Recipe(), setting, covered)
    assert seen[0] == setting
    before = set(advice.before.missed.tolist())
    assert advice.missed["missed"] == len(before) == sum(row["boxes"] for row in advice.missed["by_reason"])
    assert len(advice.tried) == len(seen) - 1 >= len(list(changes(setting)))
    for chosen, row in zip(seen[1:], advice.tried, strict=True):
        after = set(cover(data, chosen).missed.tolist())
        assert (row["recovered"], row["lost"]) == (len(before - after), len(after - before))
        assert row["bpr"] == pytest.approx(100 - 100 * len(after) / 320)
    # Little boxes in a small input: a larger one, or P2, is what helps.
    assert advice.advised in advice.tried
    assert advice.advised["gain"] >= 0.8 * max(row["gain"] for row in advice.tried[: len(list(changes(setting)))])
    assert re.search("short side|P2", advice.advised["change"])


def test_nothing_to_gain_is_no_advice(make_data):
    data = make_data([(64, 64, [(0, 2, 2, 62, 62)])])
    advice = advise(data, Recipe(), Setting(), lambda setting: cover(data, setting))
    assert advice.advised is None
    assert advice.missed["missed"] == 0
    assert advice.missed["by_class"] == []
    assert [row["name"] for row in advice.missed["by_reason"]] == list(REASONS)


def test_a_combination_that_costs_far_more_for_little_is_not_advised(make_data):
    """P4 alone misses many of these boxes; a larger input or P3 finds nearly all of them, both together a few more."""
    rng = np.random.default_rng(3)
    low = rng.integers(0, 380, (60, 2))
    boxes = np.concatenate([low, low + rng.integers(8, 16, (60, 2))], axis=1)
    data = make_data([(400, 400, [(0, *box) for box in boxes.tolist()])])
    setting = Setting(build_pyramid([4]), 400, 800)
    recipe = load_recipe("ablations/p4_only").recipe
    advice = advise(data, recipe, setting, lambda chosen: cover(data, chosen))
    single = advice.tried[: len(list(changes(setting)))]
    together = advice.tried[len(single) :]
    most = max(row["gain"] for row in single)
    assert any(row["gain"] > most and row["locations"] > 10 for row in together)
    assert advice.advised in single


RECIPES = ("r50", "r50_improved", "r101_2x", "bccd", "shapes", "ablations/p4_only")


@pytest.mark.parametrize("name", RECIPES)
def test_the_keys_make_the_recipe_train_with_the_setting(name):
    recipe = load_recipe(name).recipe
    setting = Setting.of_recipe(recipe)
    assert recipe_overrides(recipe, setting) == []
    for change in changes(setting):
        wanted = replace(setting, **change.fields)
        changed = load_recipe(name, recipe_overrides(recipe, wanted)).recipe
        assert Setting.of_recipe(changed) == wanted, change.name
        assert (changed.test.short_side, changed.test.long_side) == (
            (wanted.short_side, wanted.long_side)
            if change.kind == "size"
            else (recipe.test.short_side, recipe.test.long_side)
        )


def test_a_recipe_with_ranges_of_its_own_gets_ranges_that_match():
    recipe = load_recipe("r50", ["model.pyramid.levels=[3, 4]", "model.pyramid.ranges=[[0, 50], [50, inf]]"]).recipe
    setting = Setting.of_recipe(recipe)
    finer = next(change for change in changes(setting) if change.name == "add P2")
    assert finer.fields["pyramid"].ranges == ((0, 25), (25, 50), (50, float("inf")))
    changed = load_recipe("r50", recipe_overrides(recipe, replace(setting, **finer.fields))).recipe
    assert changed.model.pyramid.geometry() == finer.fields["pyramid"]
