"""Copies of recipes load to what the original loads to, wherever they go."""

import pytest

from fcos_cli.errors import RecipeError, UsageError
from fcos_cli.recipe.copying import copy_recipe
from fcos_cli.recipe.files import bundled
from fcos_cli.recipe.load import load_recipe


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize("name", bundled())
def test_every_bundled_recipe_copies(folder, name):
    written = copy_recipe(name, folder / "deep" / "mine.toml")
    text = written.read_text(encoding="utf-8")
    assert load_recipe(str(written)).recipe == load_recipe(name).recipe
    assert text.splitlines()[0] == "# fcos train deep/mine.toml"
    assert text.splitlines()[1:] == bundled()[name].read_text(encoding="utf-8").splitlines()[1:]


@pytest.mark.parametrize(
    ("destination", "expected"),
    [(None, "p4_only.toml"), ("mine", "mine.toml"), ("mine.toml", "mine.toml"), ("sub/", "sub/p4_only.toml")],
)
def test_where_it_goes(folder, destination, expected):
    from pathlib import Path

    if destination == "sub/":
        (folder / "sub").mkdir()
    written = copy_recipe("ablations/p4_only", Path(destination) if destination else None)
    assert written.as_posix() == expected
    assert written.is_file()


def test_an_extends_by_path_is_mended(folder):
    (folder / "base.toml").write_text("[train]\nseed = 3\n")
    (folder / "mine.toml").write_text("extends = 'base.toml'  # ours\n[train]\nema = 0.5\n")
    written = copy_recipe("mine.toml", folder / "far" / "away" / "copy.toml")
    assert 'extends = "../../base.toml"  # ours' in written.read_text()
    assert load_recipe(str(written)).recipe.train.seed == 3


def test_nothing_is_overwritten_without_force(folder):
    (folder / "r50.toml").write_text("mine")
    with pytest.raises(UsageError, match=r"^r50\.toml is there already$") as caught:
        copy_recipe("r50")
    assert "--force" in caught.value.hint
    assert (folder / "r50.toml").read_text() == "mine"
    copy_recipe("r50", force=True)
    assert load_recipe("./r50.toml").recipe == load_recipe("r50").recipe


def test_a_recipe_is_not_copied_onto_itself(folder):
    (folder / "mine.toml").write_text("[train]\nseed = 1\n")
    with pytest.raises(UsageError, match="is the recipe itself"):
        copy_recipe("mine.toml", folder / "mine.toml", force=True)
    assert (folder / "mine.toml").read_text() == "[train]\nseed = 1\n"


def test_a_recipe_that_does_not_hold_is_not_copied(folder):
    (folder / "mine.toml").write_text("[train]\nsed = 1\n")
    with pytest.raises(RecipeError, match=r"did you mean train\.seed"):
        copy_recipe("mine.toml", folder / "copy.toml")
    assert not (folder / "copy.toml").exists()
