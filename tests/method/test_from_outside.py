"""Methods that packages bring by an entry point: how recipes name them, and what is said when something is wrong."""

import json
import tomllib
from pathlib import Path

import pytest

SOFT = """
extends = {base!r}
[assign]
name = "soft"
[model.head]
name = "soft"
reg_max = 5
[loss]
name = "soft"
"""


@pytest.fixture
def soft(soft_method, tiny, tmp_path, monkeypatch):
    """A recipe of the method `soft` that trains in seconds."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "soft.toml"
    path.write_text(SOFT.format(base=str(tiny)))
    return path


def test_the_tables_start_anew_where_the_name_changes(soft, run_fcos):
    shown = run_fcos("recipe", "show", soft, "--resolved")
    assert shown.returncode == 0, shown.stderr
    recipe = tomllib.loads(shown.stdout)
    assert recipe["assign"] == {"name": "soft", "floor": 0.1}
    assert recipe["model"]["head"] == {"name": "soft", "reg_max": 5}
    assert recipe["loss"] == {"name": "soft", "scale_sides": 0.25}
    assert recipe["model"]["pyramid"]["channels"] == 16
    unknown = run_fcos("recipe", "check", "r50_improved", "--set", "assign.name=atss")
    assert unknown.returncode == 2
    assert "gives way" not in unknown.stderr  # to what there is not
    assert '[assign] of "fcos" gives way to that of "soft": without center_sampling' in shown.stderr


def test_no_override_is_lost_to_another_that_names_a_method(soft, run_fcos):
    """In either order: the key is FCOS's, and that is said."""
    pair = ("assign.center_sampling=1.5", "assign.name=soft")
    for first, second in (pair, pair[::-1]):
        checked = run_fcos("recipe", "check", "r50", "--set", first, "--set", second, "--json")
        assert checked.returncode == 2
        assert "assign.center_sampling is a key of" in checked.stdout


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "assign.center_sampling=1.5",
            'assign.center_sampling is a key of assign.name = "fcos", and this recipe has assign.name = "soft" (--set)',
        ),
        ("assign.flor=0.5", "unknown key assign.flor; did you mean assign.floor? (--set)"),
        ("assign.floor=2", "assign.floor = 2 must be a number >= 0 and <= 1 (--set)"),
        ("assign.name=sift", 'assign.name = "sift" must be one of "fcos", "soft"; did you mean "soft"? (--set)'),
        (
            "loss.name=fcos",
            'assign.name = "soft" gives soft_labels and weights, which loss.name = "fcos" does not use: '
            'set loss.name = "soft"',
        ),
        (
            "assign.name=fcos",
            'loss.name = "soft" needs soft_labels and weights, which assign.name = "fcos" does not give: '
            'set assign.name = "soft"',
        ),
        ("model.head.name=fcos", 'loss.name = "soft" needs model.head.name = "soft"'),
    ],
)
def test_what_is_wrong_is_said_before_training(soft, run_fcos, override, line):
    checked = run_fcos("recipe", "check", soft, "--set", override, "--json")
    assert checked.returncode == 2
    assert line in json.loads(checked.stdout)["recipes"][0]["problems"]


def test_it_trains_resumes_and_predicts(soft, run_fcos):
    """Twenty iterations at once are ten and ten, in two passes each; log and rows have the method's own terms."""
    passes = ("--set", "train.accumulate=2", "--device", "cpu")
    whole = run_fcos("train", soft, "--run-dir", "whole", *passes)
    assert whole.returncode == 0, whole.stderr
    assert "class " in whole.stderr
    assert "sides " in whole.stderr
    rows = [json.loads(line) for line in Path("whole/metrics.jsonl").read_text().splitlines()]
    first = rows[0]
    assert first["loss"] == pytest.approx(first["classification"] + first["sides"], rel=1e-5)
    assert "quality" not in first
    assert (Path("whole") / "pictures" / "training.png").stat().st_size > 10_000

    half = run_fcos(
        "train", soft, "--run-dir", "half", *passes, "--set", "schedule.iterations=10", "--set", "schedule.steps=[]"
    )
    assert half.returncode == 0, half.stderr
    on = run_fcos(
        "train",
        "--resume",
        "half",
        "--device",
        "cpu",
        "--set",
        "schedule.iterations=20",
        "--set",
        "schedule.steps=[15]",
    )
    assert on.returncode == 0, on.stderr
    ends = [Path(run) / "checkpoints" / "last.safetensors" for run in ("whole", "half")]
    import torch
    from safetensors.torch import load_file

    a, b = (load_file(end) for end in ends)
    assert all(torch.equal(a[name], b[name]) for name in a)

    found = run_fcos("eval", "whole", "--data", "shapes", "--split", "val", "--device", "cpu", "--json")
    assert found.returncode == 0, found.stderr
    assert "AP" in json.loads(found.stdout)["metrics"]


def test_statistics_never_give_the_figures_of_another_method(soft, run_fcos):
    tables = run_fcos("stats", "tables", "--data", "shapes", "--split", "val", "--recipe", soft)
    assert tables.returncode == 2
    assert "the paper's tables are of FCOS and RetinaNet" in tables.stderr
    for verb in ("bpr", "ambiguity", "boxes", "advise"):
        asked = run_fcos("stats", verb, "--data", "shapes", "--split", "val", "--recipe", soft)
        assert asked.returncode == 2, verb
        assert 'assign.name = "soft" assigns by what the network predicts' in " ".join(asked.stderr.split())
        assert asked.stdout == ""


def test_centre_sampling_is_no_option_of_another_method(soft, run_fcos):
    asked = run_fcos("stats", "bpr", "--data", "shapes", "--recipe", soft, "--center-sampling", "1.5")
    assert asked.returncode == 2
    assert "has no such key" in asked.stderr


def test_a_package_that_fails_to_load_stops_nothing_but_its_method(install, run_fcos, tmp_path):
    install("broken", "raise ImportError('no module named cupy')", {"soft": "broken:METHOD", "odd": "json:dumps"})
    assert run_fcos("recipe", "check", "r50").returncode == 0
    asked = run_fcos("recipe", "check", "r50", "--set", "assign.name=soft", "--json")
    (problem,) = json.loads(asked.stdout)["recipes"][0]["problems"]
    assert "package broken failed to load" in problem
    assert "cupy" in problem
    asked = run_fcos("recipe", "check", "r50", "--set", "assign.name=odd", "--json")
    assert "is no fcos_cli.method.interface.Method" in json.loads(asked.stdout)["recipes"][0]["problems"][0]


def test_keys_are_listed_by_method(soft, run_fcos):
    listed = run_fcos("recipe", "keys")
    assert listed.returncode == 0
    values = tomllib.loads(listed.stdout)
    assert values["assign"]["name"] == "fcos"  # the other method's tables are comments
    own = listed.stdout.partition("# The tables of soft: ")[2]
    assert "# [model.head]" in own
    assert "# reg_max = 7" in own
    assert "# reg_max" not in listed.stdout.partition("# The tables of soft: ")[0]


BAD = """
from typing import Literal
from pydantic import BaseModel, Field
from fcos_cli.method.interface import AssignerPart, Method
from fcos_cli.method.table import AssignConfig

class Nested(BaseModel):
    a: int = 1

class Config(AssignConfig):
    name: Literal["odd"] = Field("odd", description="x")
    key: KEY

def make(name, table=Config):
    return Method(name, "x", assigner=table and AssignerPart(table, None))

GOOD = make("odd")
SHOUT = make("ODD")
OTHER = make("other")
BARE = make("odd", None)
WRONG = make("odd", dict)
TAKEN = Method("fcos", "x", assigner=AssignerPart(Config, None))
"""


@pytest.mark.parametrize(
    ("key", "entry", "reason"),
    [
        ("int = Field(1, description='x')", "SHOUT", "lower-case letters"),
        ("int = Field(1, description='x')", "BARE", "has neither an assigner"),
        ("int = Field(1, description='x')", "WRONG", "no subclass of AssignConfig"),
        ("int = Field(1, description='x')", "OTHER", 'needs name: Literal["other"]'),
        ("int = Field(1, description='x')", "TAKEN", "there is a method 'fcos' already"),
        ("int = Field(1)", "GOOD", "Config.key is not"),
        ("int = Field(description='x')", "GOOD", "Config.key is not"),
        ("Nested = Field(Nested(), description='x')", "GOOD", "Config.key is not"),
        ("list = Field(default_factory=list, description='x')", "GOOD", "Config.key is not"),
    ],
)
def test_an_unsound_method_is_left_out_and_said(install, run_fcos, key, entry, reason):
    install("odd_package", BAD.replace("KEY", key), {"odd": f"odd_package:{entry}"})
    listed = run_fcos("recipe", "keys", "assign")
    assert listed.returncode == 0
    assert "odd" not in listed.stdout
    assert reason in " ".join(listed.stderr.split())


def test_a_detector_whose_method_is_not_installed_is_named(soft, run_fcos, monkeypatch):
    short = ("schedule.iterations=1", "schedule.steps=[]", "schedule.warmup_iterations=1")
    sets = [part for override in short for part in ("--set", override)]
    trained = run_fcos("train", soft, "--run-dir", "run", "--device", "cpu", *sets)
    assert trained.returncode == 0, trained.stderr
    monkeypatch.delenv("PYTHONPATH")
    asked = run_fcos("eval", "run", "--data", "shapes", "--split", "val", "--device", "cpu")
    assert asked.returncode == 4
    assert "is of the method 'soft', which is not installed" in " ".join(asked.stderr.split())
