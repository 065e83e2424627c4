"""`fcos recipe`: what it prints, where, and with which exit code."""

import json
import subprocess
import sys

import pytest
from typer.testing import CliRunner

from fcos_cli.commands.recipe import app
from fcos_cli.errors import RecipeError, UsageError
from fcos_cli.recipe.files import bundled
from fcos_cli.recipe.keys import all_keys
from fcos_cli.recipe.load import load_recipe
from fcos_cli.recipe.schema import Recipe


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments, code=0):
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == code, result.output
    return result


def run_failing(error, *arguments):
    with pytest.raises(error) as caught:
        CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    return caught.value


def test_list():
    lines = run("list").stdout.splitlines()
    assert lines[0].split() == ["recipe", "AP", "what", "it", "is"]
    assert [line.split()[0] for line in lines[1:]] == list(bundled())
    (improved,) = [line for line in lines if line.startswith("r50_improved ")]
    assert improved.split()[1] == "38.6"


def test_list_json():
    entries = {entry["name"]: entry for entry in json.loads(run("list", "--json").stdout)["recipes"]}
    assert entries["x101_64x4d_2x_improved"]["published_ap"] == 44.7
    assert entries["ablations/p4_only"]["published_ap"] is None
    assert entries["ablations/p4_only"]["extends"] == "r50"


def test_show_is_the_file():
    assert run("show", "ablations/giou").stdout == bundled()["ablations/giou"].read_text(encoding="utf-8")


def test_show_resolved_is_a_recipe(folder):
    (folder / "full.toml").write_text(run("show", "ablations/giou", "--resolved").stdout)
    assert load_recipe("full.toml").recipe == load_recipe("ablations/giou").recipe


def test_set_shows_the_resolved_recipe():
    assert "batch_size = 4\n" in run("show", "r50", "--set", "train.batch_size=4").stdout


def test_show_json():
    ranges = ("--set", "model.pyramid.levels=[3,4]", "--set", "model.pyramid.ranges=[[0,64],[64,inf]]")
    shown = json.loads(run("show", "r50", "--json", *ranges).stdout)
    assert shown["name"] == "r50"
    assert shown["recipe"]["model"]["pyramid"]["ranges"] == [[0.0, 64.0], [64.0, "inf"]]
    assert shown["recipe"]["train"]["batch_size"] == 16


def test_show_of_what_is_not_there():
    assert "did you mean r50?" in run_failing(RecipeError, "show", "r5O").hint


def test_copy(folder):
    result = run("copy", "ablations/p4_only", "mine")
    assert "wrote mine.toml; train it: fcos train mine.toml" in result.output
    assert load_recipe("mine.toml").recipe == load_recipe("ablations/p4_only").recipe
    assert "--force" in run_failing(UsageError, "copy", "r50", "mine").hint
    run("copy", "r50", "mine", "--force")
    run("copy", "r50", "new/")
    assert load_recipe(str(folder / "new" / "r50.toml")).recipe == load_recipe("r50").recipe
    assert load_recipe("mine.toml").recipe == load_recipe("r50").recipe


def test_check_says_ok():
    result = run("check", *bundled())
    assert result.stdout.splitlines() == [f"ok  {name}" for name in bundled()]


def test_check_goes_on_after_a_bad_one(folder):
    (folder / "bad.toml").write_text("[train]\nbatchsize = 8\n[optimizer]\nlr = 'fast'\n")
    (folder / "worse.toml").write_text("[train\n")
    result = run("check", "bad.toml", "r50", "worse.toml", "absent", code=2)
    assert result.stdout == "ok  r50\n"
    errors = result.stderr
    assert "unknown key train.batchsize; did you mean train.batch_size? (bad.toml)" in errors
    assert 'optimizer.lr = "fast" must be a number > 0 (bad.toml)' in errors
    assert "worse.toml:1: not valid TOML" in errors
    assert "there is no recipe 'absent'" in errors


def test_check_json(folder):
    (folder / "bad.toml").write_text("[train]\nbatchsize = 8\n")
    results = json.loads(run("check", "bad.toml", "r50", "--json", code=2).stdout)["recipes"]
    assert [entry["ok"] for entry in results] == [False, True]
    assert results[0]["problems"] == ["unknown key train.batchsize; did you mean train.batch_size? (bad.toml)"]


def test_check_with_overrides():
    assert "train.accumulate = 3" in run("check", "r50", "--set", "train.accumulate=3", code=2).stderr


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "model.backbone.weight_style=pytorch",
            'model.backbone.weight_style = "pytorch", but msra/R-50 holds caffe-style',
        ),
        ("model.backbone.norm=gn", 'model.backbone.norm = "gn", but msra/R-50 was trained with BatchNorm'),
        ("model.backbone.name=resnet101", "model.backbone.weights = msra/R-50 is a resnet50"),
        ("model.backbone.weights=msra/R50", 'model.backbone.weights = "msra/R50" is neither published weights nor'),
    ],
)
def test_check_knows_the_published_weights(override, message):
    assert message in run("check", "r50", "--set", override, code=2).stderr


def test_keys_are_a_recipe_of_the_defaults(folder):
    (folder / "all.toml").write_text(run("keys").stdout)
    assert load_recipe("all.toml").recipe == Recipe()


def test_keys_of_a_table_and_of_one_key():
    text = run("keys", "model").stdout
    assert "[model.backbone]" in text
    assert "[train]" not in text
    assert run("keys", "train.ema").stdout == (
        "# How training runs.\n[train]\n\n"
        "# Decay of an average of the weights; 0 is off.\n# Allowed: a number >= 0 and < 1\nema = 0.0\n"
    )


def test_keys_json():
    entries = json.loads(run("keys", "--json").stdout)["keys"]
    assert [entry["key"] for entry in entries] == list(all_keys())
    norm = next(entry for entry in entries if entry["key"] == "model.backbone.norm")
    assert norm["choices"] == ["frozen_bn", "bn", "gn"]
    assert norm["default"] == "frozen_bn"


@pytest.mark.parametrize(
    ("given", "nearest"), [("trian", "train"), ("lr", "optimizer.lr"), ("train.lr", "optimizer.lr")]
)
def test_keys_of_nothing(given, nearest):
    assert f"did you mean {nearest}?" in run_failing(UsageError, "keys", given).hint


def test_weights_names_what_the_recipes_use():
    named = {load_recipe(name).recipe.model.backbone.weights for name in bundled()} - {""}
    lines = run("weights").stdout.splitlines()
    assert named <= {line.split()[0] for line in lines[1:]}
    listed = {entry["name"] for entry in json.loads(run("weights", "--json").stdout)["weights"]}
    assert named <= listed


def test_imports_nothing_heavy():
    code = (
        "import sys, fcos_cli.commands.recipe as r; r.app(['check', 'r50'], standalone_mode=False); print(*sys.modules)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.startswith("ok  r50")
    assert not {"torch", "matplotlib", "PIL"} & set(result.stdout.split())
