"""What a resumed training must not lose: the weights' style, the overrides, an evaluation that was cut short."""

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from fcos_cli.errors import RecipeError, WeightsError
from fcos_cli.recipe.load import load_recipe
from fcos_cli.runs import RunFolder
from fcos_cli.temporary import temporary_for
from fcos_cli.training import session, setup
from fcos_cli.training.checkpoint import load_state
from fcos_cli.training.log import evaluated
from fcos_cli.training.opening import TrainingRequest
from fcos_cli.training.session import train
from fcos_cli.training.trainer import Trainer
from fcos_cli.training.validation import Validator
from fcos_cli.weights import starting
from fcos_cli.weights.saved import load_detector


def run(recipe: Path | None, *overrides: str, until: int | None = None, **changes: object) -> session.Outcome:
    """A training; with `until`, a signal reaches it in the step that ends there."""
    step = Trainer.step

    def then_signal(self: Trainer, batch: object) -> None:
        step(self, batch)
        if self.iteration == until:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", then_signal)
        outcome = train(replace(TrainingRequest(str(recipe) if recipe else None, overrides), **changes))
    assert outcome is not None
    return outcome


def test_the_style_of_the_first_weights_stays(here: Path, tiny: Path) -> None:
    """model.weights brought the caffe style along; the recipe's own backbone would be of the pytorch style."""
    keys = ('model.backbone.weight_style="caffe"', "model.backbone.pixel_mean=[1, 2, 3]")
    caffe = run(tiny, *keys, "schedule.iterations=16")
    overrides = [f"model.weights={str(caffe.run.path)!r}", "schedule.iterations=16"]
    stopped = run(tiny, *overrides, until=5, run_dir=here / "second")
    assert stopped.interrupted
    state = load_state(stopped.run.state)
    assert (state.style, state.pixels) == ("caffe", {"order": "bgr", "mean": [1.0, 2.0, 3.0], "std": [1.0, 1.0, 1.0]})
    done = run(None, resume=str(stopped.run.path))
    assert not done.interrupted
    model = load_detector(done.run.path).model
    assert (model.style, model.pixels.mean) == ("caffe", (1.0, 2.0, 3.0))


def test_a_model_that_resumes_loads_nothing(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = load_recipe(str(tiny), ["model.weights='gone.safetensors'"]).recipe
    categories = setup.open_data("shapes", "train").categories
    model, notes = starting.build_model(recipe, categories, resumed="caffe")
    assert (model.style, notes) == ("caffe", [])
    with pytest.raises(WeightsError, match=r"gone\.safetensors"):
        starting.build_model(recipe, categories)


def test_overrides_of_a_resumed_run_hold_for_the_next_one(here: Path, tiny: Path) -> None:
    folder = here / "run"
    run(tiny, run_dir=folder)
    stopped = run(None, "schedule.iterations=40", until=25, resume=str(folder))
    assert stopped.interrupted
    assert run(None, resume=str(folder)).iteration == 40


@pytest.mark.parametrize("change", ["model.pyramid.channels=32", 'optimizer.name="adamw"'])
def test_a_change_that_the_state_cannot_follow_is_refused(here: Path, tiny: Path, change: str) -> None:
    folder = run(tiny, until=5, run_dir=here / "run").run.path
    with pytest.raises(RecipeError, match=r"differs|was trained with 'sgd'"):
        run(None, change, resume=str(folder))
    assert load_recipe(str(folder / "recipe.toml")).recipe == load_recipe(str(tiny)).recipe


def test_other_classes_are_an_error_with_advice(here: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = run(tiny, until=5, run_dir=here / "run").run.path
    open_data = setup.open_data

    def with_another(spec: str, split: str | None = None, **how: object) -> object:
        data = open_data(spec, split, **how)
        ids, names = data.categories.ids, data.categories.names
        return replace(data, categories=type(data.categories)((*ids, 99), (*names, "new")))

    monkeypatch.setattr(setup, "open_data", with_another)
    with pytest.raises(WeightsError, match="does not fit the model") as error:
        run(None, resume=str(folder))
    assert "model.weights" in error.value.hint


def test_a_signal_in_the_last_step_leaves_the_evaluation_to_the_resume(here: Path, tiny: Path) -> None:
    stopped = run(tiny, until=20, run_dir=here / "run")
    assert (stopped.interrupted, stopped.iteration, stopped.evaluation) == (True, 20, None)
    done = run(None, resume=str(here / "run"))
    assert not done.interrupted
    assert done.evaluation is not None
    assert evaluated(done.run.metrics) == {20}


def test_a_signal_at_a_milestone_loses_no_evaluation(here: Path, tiny: Path) -> None:
    stopped = run(tiny, "train.eval_every=10", until=10, run_dir=here / "run")
    assert evaluated(stopped.run.metrics) == set()
    done = run(None, resume=str(here / "run"))
    assert evaluated(done.run.metrics) == {10, 20}


def test_an_evaluation_that_fails_loses_no_step(here: Path, tiny: Path) -> None:
    def fail(*_: object) -> None:
        raise OSError("no space left")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Validator, "_predict", fail)
        with pytest.raises(OSError, match="no space"):
            run(tiny, "train.checkpoint_every=0", run_dir=here / "run")
    assert load_state(RunFolder(here / "run").state).iteration == 20
    done = run(None, resume=str(here / "run"))
    assert done.evaluation is not None
    whole = run(tiny, run_dir=here / "whole")
    first, second = (load_detector(outcome.run.path).model.state_dict() for outcome in (done, whole))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_a_later_and_worse_evaluation_does_not_replace_the_best_of_before(here: Path, tiny: Path) -> None:
    folder = here / "run"
    stopped = run(tiny, "train.eval_every=5", until=12, run_dir=folder)
    assert stopped.evaluation is not None
    before = stopped.run.best.read_bytes()

    def nothing(self: Validator, *_: object) -> object:
        return torch.zeros(0, 7).double().numpy()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Validator, "_predict", nothing)
        done = run(None, resume=str(folder))
    assert done.evaluation is not None
    assert done.evaluation.metrics == stopped.evaluation.metrics
    assert done.run.best.read_bytes() == before


def test_what_a_killed_process_left_is_swept(here: Path, tiny: Path) -> None:
    folder = run(tiny, until=5, run_dir=here / "run").run
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    name = temporary_for(folder.state).name.replace(f"-{os.getpid()}-", f"-{ended.pid}-")
    (folder.checkpoints / name).write_bytes(b"half a state")
    run(None, until=10, resume=str(folder.path))
    assert not list(folder.path.rglob("*.tmp"))
