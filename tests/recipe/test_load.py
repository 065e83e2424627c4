"""Finding, reading, merging and overriding recipes."""

import os
from pathlib import Path

import pytest

from fcos_cli.errors import RecipeError, SetupError
from fcos_cli.recipe import files
from fcos_cli.recipe.files import bundled, bundled_folder, find_recipe
from fcos_cli.recipe.load import load_recipe, merge, parse_override
from fcos_cli.recipe.schema import Recipe

CHECKOUT = Path(__file__).parents[2]


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def error_of(spec, *overrides):
    with pytest.raises(RecipeError) as caught:
        load_recipe(str(spec), overrides)
    assert caught.value.exit_code == 2
    return caught.value


def test_a_bundled_name_and_a_path_are_the_same_recipe(monkeypatch):
    monkeypatch.chdir(CHECKOUT)
    by_name, by_path = load_recipe("r50"), load_recipe("recipes/r50.toml")
    assert by_name.recipe == by_path.recipe
    assert by_name.name == by_path.name == "r50"
    assert by_name.source.samefile(by_path.source)


def test_a_nested_name_is_found_and_keeps_its_name(folder):
    loaded = load_recipe("ablations/p4_only")
    assert loaded.name == "ablations/p4_only"
    assert loaded.recipe.model.pyramid.levels == [4]
    assert loaded.base == bundled()["r50"]


def test_without_a_checkout_recipes_r50_toml_is_the_bundled_one(folder):
    assert find_recipe("recipes/r50.toml") == bundled()["r50"]
    assert find_recipe("./recipes/ablations/giou.toml") == bundled()["ablations/giou"]


def test_a_file_that_is_there_wins_over_the_bundled_one(folder):
    write(folder / "recipes" / "r50.toml", "[train]\nseed = 7\n")
    loaded = load_recipe("recipes/r50.toml")
    assert loaded.recipe.train.seed == 7
    assert load_recipe("r50").recipe.train.seed == 0


def test_a_wheel_finds_its_package_data(folder, monkeypatch):
    package = folder / "site-packages" / "fcos_cli"
    write(package / "recipes" / "tiny.toml", "description = 'in the wheel'")
    monkeypatch.setattr(files, "__file__", str(package / "recipe" / "files.py"))
    assert bundled_folder() == package / "recipes"
    assert load_recipe("recipes/tiny.toml").recipe.description == "in the wheel"


def test_a_folder_called_recipes_beside_the_package_is_not_taken_for_ours(folder, monkeypatch):
    write(folder / "site-packages" / "recipes" / "soup.toml", "")
    package = folder / "site-packages" / "fcos_cli"
    monkeypatch.setattr(files, "__file__", str(package / "recipe" / "files.py"))
    with pytest.raises(SetupError, match="the bundled recipes are missing from"):
        bundled_folder()


def test_the_suffix_may_be_left_out(folder):
    write(folder / "mine.toml", "[train]\nseed = 5")
    assert load_recipe("mine").recipe.train.seed == 5
    assert load_recipe("mine").name == "mine"


@pytest.mark.parametrize(
    ("spec", "message", "hint"),
    [
        ("r5O", "there is no recipe 'r5O'", "did you mean r50? `fcos recipe list` names them all"),
        ("r50.toml", "there is no recipe file 'r50.toml'", "did you mean r50? `fcos recipe list` names them all"),
        (
            "p4_onli",
            "there is no recipe 'p4_onli'",
            "did you mean ablations/p4_only? `fcos recipe list` names them all",
        ),
        (
            "recipes/ablation/giou.toml",
            "there is no recipe file 'recipes/ablation/giou.toml'",
            "did you mean ablations/giou? `fcos recipe list` names them all",
        ),
        ("zzz", "there is no recipe 'zzz'", "`fcos recipe list` names them all"),
        ("", "the recipe has no name", "`fcos recipe list` names them all"),
    ],
)
def test_an_unknown_recipe_names_the_nearest(folder, spec, message, hint):
    error = error_of(spec)
    assert error.message == message
    assert error.hint == hint


def test_a_folder_is_not_a_recipe(folder):
    assert error_of(".").message == ". is a folder, not a recipe"


def test_extends_merges_tables_and_replaces_arrays(folder):
    write(
        folder / "base.toml", "[schedule]\niterations = 100\nsteps = [50, 80]\nwarmup_iterations = 10\n[train]\nseed=1"
    )
    write(folder / "sub" / "child.toml", 'extends = "../base.toml"\n[schedule]\nsteps = [90]\n[train]\nema = 0.5\n')
    loaded = load_recipe("sub/child.toml")
    assert loaded.recipe.schedule.steps == [90]
    assert loaded.recipe.schedule.iterations == 100
    assert (loaded.recipe.train.seed, loaded.recipe.train.ema) == (1, 0.5)
    assert loaded.base is not None
    assert loaded.base.samefile(folder / "base.toml")


def test_description_and_published_ap_are_not_inherited(folder):
    write(folder / "mine.toml", 'extends = "r50"\n')
    recipe = load_recipe("mine.toml").recipe
    assert load_recipe("r50").recipe.published_ap == 37.1
    assert recipe.published_ap is None
    assert recipe.description == ""


def test_one_extends_level_only(folder):
    write(folder / "mine.toml", 'extends = "r50_improved"\n')
    error = error_of("mine.toml")
    assert error.message.endswith("which extends 'r50': one level only")
    assert error.message.startswith("mine.toml extends ")
    assert error.hint.startswith("extend 'r50' directly and repeat the lines of ")


def test_extends_names_what_is_missing(folder):
    write(folder / "mine.toml", 'extends = "r5"\n')
    error = error_of("mine.toml")
    assert error.message == 'mine.toml: extends = "r5": there is no such recipe'
    assert "did you mean r50?" in error.hint


def test_extends_takes_one_text(folder):
    write(folder / "mine.toml", 'extends = ["r50", "shapes"]\n')
    expected = "mine.toml: extends must be one recipe's name or path, not ['r50', 'shapes']"
    assert error_of("mine.toml").message == expected


def test_a_wrong_key_of_the_base_names_the_base(folder):
    write(folder / "base.toml", "[train]\nbatchsize = 4\n")
    write(folder / "mine.toml", 'extends = "base.toml"\n[train]\nsed = 1\n')
    assert set(error_of("mine.toml").problems) == {
        "unknown key train.batchsize; did you mean train.batch_size? (base.toml)",
        "unknown key train.sed; did you mean train.seed? (mine.toml)",
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[train]\nseed = 1\nname = gn\n", "mine.toml:3: not valid TOML: invalid value: name = gn"),
        (
            "[train\n",
            "mine.toml:1: not valid TOML: expected ']' at the end of a table declaration: [train",
        ),
        ("[train]\nseed = 1\n\n[data]\nsplit = 'a", "mine.toml:5: not valid TOML: "),
        ("a = 1\na = 2\n", "mine.toml:2: not valid TOML: cannot overwrite a value: a = 2"),
        (b"[train]\nseed = \xe9\n", "mine.toml:2: byte 0xe9 is not UTF-8 text"),
        ("[train]".encode("utf-16"), "mine.toml: the text is UTF-16; TOML is UTF-8"),
    ],
)
def test_files_that_are_not_toml(folder, text, message):
    write(folder / "mine.toml", text)
    assert error_of("mine.toml").message.startswith(message)


def test_nesting_without_end(folder):
    write(folder / "mine.toml", "a = " + "[" * 5000 + "]" * 5000)
    assert error_of("mine.toml").message.startswith("mine.toml")


def test_a_byte_order_mark_and_windows_line_ends_are_read(folder):
    write(folder / "mine.toml", b"\xef\xbb\xbf[train]\r\nseed = 9\r\n")
    assert load_recipe("mine.toml").recipe.train.seed == 9


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_cannot_be_read(folder):
    write(folder / "mine.toml", "").chmod(0)
    assert error_of("mine.toml").message == "mine.toml: cannot be read: Permission denied"


def test_an_empty_file_is_the_defaults(folder):
    write(folder / "mine.toml", "")
    assert load_recipe("mine.toml").recipe == Recipe()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("train.batch_size=8", {"train": {"batch_size": 8}}),
        ("a.b.c = 1e-3", {"a": {"b": {"c": 0.001}}}),
        ("seed=true", {"seed": True}),
        ("a=gn", {"a": "gn"}),
        ('a="gn"', {"a": "gn"}),
        ("a=", {"a": ""}),
        ("a=../shared/my data", {"a": "../shared/my data"}),
        ("a=https://host/x.pth?b=c", {"a": "https://host/x.pth?b=c"}),
        ("a=2024-05-01", {"a": "2024-05-01"}),
        ("a=[[0, 64], [64, inf]]", {"a": [[0, 64], [64, float("inf")]]}),
        ("a={b = 1}", {"a": {"b": 1}}),
        ("a=1 # why", {"a": 1}),
    ],
)
def test_overrides(text, expected):
    assert parse_override(text) == expected


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train.batch_size", "--set train.batch_size: there is no ="),
        ("=8", "--set =8: '' is not a dotted key"),
        ("train..seed=8", "--set train..seed=8: 'train..seed' is not a dotted key"),
        ("train seed=8", "--set train seed=8: 'train seed' is not a dotted key"),
        ("a=[1, 2", "--set a=[1, 2: the value is not valid TOML"),
        ('a="gn', '--set a="gn: the value is not valid TOML'),
        ("a=1\nb=2", "--set a=1\nb=2: one key and one value only"),
    ],
)
def test_overrides_that_cannot_be_read(text, message):
    with pytest.raises(RecipeError) as caught:
        parse_override(text)
    assert caught.value.message == message
    assert "--set" in caught.value.hint


def test_overrides_win_and_the_last_wins():
    recipe = load_recipe("r50", ["train.batch_size=8", "train.batch_size=4", "model.backbone.norm=gn"]).recipe
    assert recipe.train.batch_size == 4
    assert recipe.model.backbone.norm == "gn"
    assert recipe.learning_rate == pytest.approx(0.0025)


def test_merge_leaves_its_inputs_alone():
    base, change = {"a": {"b": 1, "c": [1]}, "d": 1}, {"a": {"c": [2]}, "d": {"e": 1}}
    assert merge(base, change) == {"a": {"b": 1, "c": [2]}, "d": {"e": 1}}
    assert base == {"a": {"b": 1, "c": [1]}, "d": 1}
