"""Run folders: made, used again, taken away, found."""

from pathlib import Path

import pytest

from fcos_cli.errors import DataError, UsageError
from fcos_cli.recipe.load import load_recipe
from fcos_cli.runs import RunFolder
from fcos_cli.training import setup
from fcos_cli.training.new_run import create_run, discard_run
from fcos_cli.training.opening import TrainingRequest, find_run
from fcos_cli.training.session import train


def test_a_mistake_before_the_first_step_leaves_no_folder(
    here: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nothing(spec: str, split: str | None = None, **how: object) -> None:
        raise DataError("no such split")

    monkeypatch.setattr(setup, "open_data", nothing)
    for folder in (None, here / "mine"):
        with pytest.raises(DataError, match="no such split"):
            train(TrainingRequest(str(tiny), run_dir=folder))
    assert not (here / "mine").exists()
    assert not list((here / "runs").iterdir())


def test_a_run_without_a_checkpoint_may_be_started_again(here: Path, tiny: Path) -> None:
    loaded = load_recipe(str(tiny))
    run = create_run(loaded, here / "run")
    run.metrics.write_text("{}\n")
    again = create_run(load_recipe(str(tiny), ["train.seed=5"]), here / "run")
    assert load_recipe(str(again.recipe)).recipe.train.seed == 5
    assert not again.metrics.exists()
    again.last.write_bytes(b"weights")
    with pytest.raises(UsageError, match="already holds a run"):
        create_run(loaded, here / "run")


@pytest.mark.parametrize("name", ["recipe.toml", "log.txt"])
def test_files_of_others_are_never_taken_for_a_run(here: Path, tiny: Path, name: str) -> None:
    (here / name).write_text("mine")
    with pytest.raises(UsageError, match=f"already holds a run: {name}"):
        create_run(load_recipe(str(tiny)), here)
    assert (here / name).read_text() == "mine"


def test_discarding_leaves_what_others_put_there(here: Path, tiny: Path) -> None:
    run = create_run(load_recipe(str(tiny)), here / "run")
    (run.path / "notes.txt").write_text("mine")
    discard_run(run)
    assert [path.name for path in run.path.iterdir()] == ["notes.txt"]


def test_a_run_is_found_by_its_name(here: Path) -> None:
    state = RunFolder(here / "runs" / "tiny-1").state
    state.parent.mkdir(parents=True)
    state.write_bytes(b"")
    assert find_run("tiny-1", None).path == Path("runs/tiny-1")
    assert find_run("runs/tiny-1", None).path == Path("runs/tiny-1")
    with pytest.raises(UsageError, match="nowhere is not a run folder") as error:
        find_run("nowhere", None)
    assert error.value.hint == "resumable runs: runs/tiny-1"


def test_a_recipe_given_to_resume_is_told_from_a_run(here: Path) -> None:
    with pytest.raises(UsageError) as error:
        find_run("shapes", None)
    assert "fcos train shapes --resume" in error.value.hint
