"""A resolved recipe written as TOML, and as the JSON of a checkpoint's metadata, is read back as it was."""

import tomllib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fcos_cli.recipe.files import bundled
from fcos_cli.recipe.keys import all_keys, reference
from fcos_cli.recipe.load import load_recipe, to_toml
from fcos_cli.recipe.schema import Recipe

WHOLE = st.integers(1, 10**9)
BOUNDS = st.floats(0, allow_nan=False)
SPECIAL = {
    "published_ap": st.none() | st.floats(0, 100),
    "model.backbone.frozen_stages": st.integers(0, 5),
    "model.pyramid.levels": st.lists(st.integers(2, 7), max_size=6),
    "model.pyramid.ranges": st.none() | st.lists(st.tuples(BOUNDS, BOUNDS), max_size=5),
    "model.backbone.pixel_mean": st.none() | st.tuples(*3 * [st.floats(0, 255)]),
    "model.backbone.pixel_std": st.none() | st.tuples(*3 * [st.floats(0.1, 255)]),
    "model.head.prior": st.floats(0.001, 0.999),
    "data.short_side": WHOLE | st.tuples(WHOLE, WHOLE),
    "data.workers": st.integers(-1, 100),
    "schedule.steps": st.lists(WHOLE, max_size=4),
    "train.ema": st.floats(0, 0.9999),
    "test.tta.scales": st.lists(st.floats(0.001, 10), max_size=4),
    "test.tta.long_side": st.floats(1, 100),
}


def values_of(key):
    if key.name in SPECIAL:
        return SPECIAL[key.name]
    if key.choices:
        return st.sampled_from(key.choices)
    by_type = {bool: st.booleans(), int: WHOLE, float: st.floats(1e-300, 1), str: st.text()}
    return by_type[type(key.default)]


@st.composite
def recipes(draw):
    values = {}
    for key in draw(st.lists(st.sampled_from(list(all_keys().values())), unique_by=lambda key: key.name)):
        *tables, last = key.name.split(".")
        table = values
        for name in tables:
            table = table.setdefault(name, {})
        table[last] = draw(values_of(key))
    return Recipe.model_validate(values)


@settings(max_examples=150, deadline=None)
@given(recipes())
def test_toml_round_trip(recipe):
    assert Recipe.model_validate(tomllib.loads(to_toml(recipe))) == recipe


@settings(max_examples=50, deadline=None)
@given(recipes())
def test_json_round_trip(recipe):
    assert Recipe.model_validate_json(recipe.model_dump_json()) == recipe


@pytest.mark.parametrize("name", bundled())
def test_every_bundled_recipe_round_trips_through_a_file(name, tmp_path):
    recipe = load_recipe(name).recipe
    path = tmp_path / "recipe.toml"
    path.write_text(to_toml(recipe), encoding="utf-8")
    assert load_recipe(str(path)).recipe == recipe


def test_how_it_looks():
    text = to_toml(Recipe())
    assert text.startswith(
        'description = ""\n\n[model]\nweights = ""\n\n[model.backbone]\nname = "resnet50"\nwidth = 64\n'
    )
    assert "levels = [3, 4, 5, 6, 7]\n" in text
    assert "ranges" not in text
    assert "published_ap" not in text
    assert text.endswith("long_side = 2.5\nflip = true\n")
    assert "max_detections = 100\n\n[test.tta]\n" in text


def test_infinite_ranges():
    recipe = load_recipe("r50", ["model.pyramid.levels=[3, 4]", "model.pyramid.ranges=[[0, 64], [64, inf]]"]).recipe
    assert "ranges = [[0.0, 64.0], [64.0, inf]]\n" in to_toml(recipe)


def test_the_reference_of_keys_is_a_recipe_of_defaults(tmp_path):
    path = tmp_path / "all.toml"
    path.write_text(reference(all_keys().values()), encoding="utf-8")
    assert load_recipe(str(path)).recipe == Recipe()
    assert all(len(line) <= 120 for line in path.read_text().splitlines())


def test_every_key_is_described():
    for key in all_keys().values():
        assert key.description, key.name
        assert key.description.rstrip().endswith((".", ")")), key.name
