"""Whole trainings: run folder, exact resume, interruption, divergence, a new start from weights."""

import json
import os
import signal
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from fcos_cli.data.records import DetectionData
from fcos_cli.data.shapes import dataset as shapes
from fcos_cli.errors import RecipeError, UsageError
from fcos_cli.evaluation.coco_ap import Evaluation, evaluate
from fcos_cli.evaluation.thresholds import OperatingPoint
from fcos_cli.recipe.load import load_recipe
from fcos_cli.training import session, setup, validation
from fcos_cli.training.checkpoint import load_state
from fcos_cli.training.distributed import World
from fcos_cli.training.log import TrainingLog, read_rows
from fcos_cli.training.opening import NEWEST, TrainingRequest
from fcos_cli.training.session import train
from fcos_cli.training.trainer import Trainer, TrainingDivergedError
from fcos_cli.training.trial import dry_run
from fcos_cli.weights.saved import load_detector
from fcos_cli.weights.thresholds import load_thresholds


def run(recipe: Path, *overrides: str, **changes: object) -> session.Outcome:
    outcome = train(replace(TrainingRequest(str(recipe), overrides), **changes))
    assert outcome is not None
    return outcome


def same(a: Path, b: Path) -> bool:
    first, second = load_file(a), load_file(b)
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("extra", [(), ("train.ema=0.9", "train.accumulate=2", 'optimizer.name="adamw"')])
def test_ten_and_ten_after_a_resume_are_twenty_bit_for_bit(here: Path, tiny: Path, extra: tuple[str, ...]) -> None:
    whole = run(tiny, *extra, run_dir=here / "whole")
    # A run that stops half way, as Ctrl-C would stop it.
    half = here / "half"
    stopped = _run_until(tiny, half, 10, extra)
    assert stopped.interrupted
    assert stopped.iteration == 10
    resumed = run(tiny, *extra, resume=str(half))
    assert resumed.iteration == 20
    assert same(whole.run.last, resumed.run.last)
    assert same(whole.run.best, resumed.run.best)
    assert whole.evaluation is not None
    assert resumed.evaluation is not None
    assert whole.evaluation.metrics == resumed.evaluation.metrics
    first, second = ([r["loss"] for r in read_rows(o.run.metrics) if "loss" in r] for o in (whole, resumed))
    assert len(first) == 4
    assert first == second


def _run_until(recipe: Path, folder: Path, iteration: int, overrides: tuple[str, ...] = ()) -> session.Outcome:
    step = Trainer.step

    def then_signal(self: Trainer, batch: object) -> None:
        step(self, batch)
        if self.iteration == iteration:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", then_signal)
        return run(recipe, *overrides, run_dir=folder)


def test_the_run_folder_holds_what_a_training_leaves(here: Path, tiny: Path) -> None:
    outcome = run(tiny, "train.eval_every=10")
    assert outcome.run.path.parent == Path("runs")
    assert outcome.run.path.name.startswith("tiny-")
    files = {str(p.relative_to(outcome.run.path)) for p in outcome.run.path.rglob("*") if p.is_file()}
    assert files >= {
        "recipe.toml",
        "environment.json",
        "log.txt",
        "metrics.jsonl",
        "checkpoints/last.safetensors",
        "checkpoints/best.safetensors",
        "checkpoints/last.state.pt",
        "evaluation/best.json",
        "evaluation/best_predictions.json",
        "pictures/training.png",
        "pictures/detections.png",
    }
    assert not [name for name in files if name.endswith(".tmp")]
    assert load_recipe(str(outcome.run.recipe)).recipe == outcome.recipe
    rows = read_rows(outcome.run.metrics)
    assert [r["iteration"] for r in rows if "AP" in r] == [10, 20]
    assert all(np.isfinite(r["loss"]) for r in rows if "loss" in r)
    stored = json.loads((outcome.run.evaluation / "best.json").read_text())
    detector = load_detector(outcome.run.path)
    assert detector.recipe == outcome.recipe
    assert detector.categories == shapes.shapes_data("train", count=1).categories
    assert json.loads(detector.metadata["metrics"]) == stored["metrics"]


def test_the_best_weights_have_thresholds(here: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Twenty steps find nothing: the evaluation is told that the first class was found."""

    def found(data: DetectionData, results: np.ndarray) -> Evaluation:
        nothing = OperatingPoint(None, 0.0, None, 0.0)
        points = (OperatingPoint(0.25, 0.5, 0.5, 0.5), *[nothing] * (len(data.categories) - 1))
        return replace(evaluate(data, results), operating=points)

    monkeypatch.setattr(validation, "evaluate", found)
    best = run(tiny).run.best
    stored = load_thresholds(best, load_detector(best).categories)
    assert stored.data == "shapes val"
    # The other classes have the median of those that were found.
    assert stored.values.tolist() == [0.25] * len(stored.values)
    assert stored.measured.tolist() == [True] + [False] * (len(stored.values) - 1)


def test_an_interruption_saves_and_a_resume_finds_the_newest_run(here: Path, tiny: Path) -> None:
    stopped = _run_until(tiny, here / "runs" / "tiny-1", 7)
    assert stopped.interrupted
    assert load_state(stopped.run.state).iteration == 7
    assert run(tiny, resume=NEWEST).run.path.resolve() == stopped.run.path.resolve()


def test_a_signal_from_another_thread_stops_too(here: Path, tiny: Path) -> None:
    timer = threading.Timer(1.0, lambda: os.kill(os.getpid(), signal.SIGINT))
    timer.start()
    outcome = run(tiny, "schedule.iterations=100000", "train.checkpoint_every=0")
    timer.cancel()
    assert outcome.interrupted
    assert 0 < outcome.iteration < 100_000
    assert load_state(outcome.run.state).iteration == outcome.iteration


def test_a_complete_run_says_so_instead_of_finishing_at_once(here: Path, tiny: Path) -> None:
    outcome = run(tiny)
    with pytest.raises(UsageError, match="is complete: it has done 20 of 20 iterations") as error:
        run(tiny, resume=str(outcome.run.path))
    assert "schedule.iterations=40" in error.value.hint
    longer = run(tiny, "schedule.iterations=24", resume=str(outcome.run.path))
    assert longer.iteration == 24


def test_resuming_with_another_model_is_refused(here: Path, tiny: Path) -> None:
    outcome = _run_until(tiny, here / "run", 5)
    with pytest.raises(RecipeError, match=r"\[model\] differs"):
        run(tiny, "model.pyramid.channels=32", resume=str(outcome.run.path))


def test_a_finished_detector_starts_a_new_training_at_zero(here: Path, tiny: Path) -> None:
    first = run(tiny)
    second = run(tiny, f"model.weights={json.dumps(str(first.run.path))}", "schedule.iterations=16")
    assert second.iteration == 16
    rows = read_rows(second.run.metrics)
    assert rows[0]["iteration"] == 5
    # It learns on from the first one's weights: the first losses lie below those of a random start.
    assert rows[0]["loss"] < read_rows(first.run.metrics)[0]["loss"]


def test_a_training_may_start_from_weights_with_other_classes(
    here: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = run(tiny)
    small = setup.open_data

    def renamed(spec: str, split: str | None = None, **how: object) -> DetectionData:
        data = small(spec, split, **how)
        keep = np.isin(data.labels, [1, 2])
        counts = np.add.reduceat(np.append(keep, False), data.offsets[:-1]) * (np.diff(data.offsets) > 0)
        categories = type(data.categories)((3, 9), ("something new", data.categories.names[1]))
        return replace(
            data,
            categories=categories,
            boxes=data.boxes[keep],
            labels=data.labels[keep] % 2,
            crowd=data.crowd[keep],
            areas=data.areas[keep],
            box_ids=data.box_ids[keep],
            offsets=np.concatenate([[0], np.cumsum(counts)]),
        )

    monkeypatch.setattr(setup, "open_data", renamed)
    seen: list[torch.Tensor] = []
    step = Trainer.step

    def look(self: Trainer, batch: object) -> None:
        if not seen:
            seen.append(self.model.head.class_logits.bias.detach().clone())
        step(self, batch)

    monkeypatch.setattr(Trainer, "step", look)
    second = run(tiny, f"model.weights={json.dumps(str(first.run.path))}")
    assert load_detector(second.run.path).categories.names[0] == "something new"
    old = load_detector(first.run.path).model.head.class_logits.bias
    assert seen[0].shape == (2,)
    assert torch.equal(seen[0][1], old[1])
    assert seen[0][0] == pytest.approx(-np.log(99), abs=1e-4)


def test_a_loss_that_is_not_finite_stops_and_keeps_the_last_good_checkpoint(here: Path, tiny: Path) -> None:
    step = Trainer.step

    def poison(self: Trainer, batch: object) -> None:
        if self.iteration == 13:
            with torch.no_grad():
                self.model.head.class_logits.bias.fill_(float("nan"))
        step(self, batch)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "step", poison)
        with pytest.raises(TrainingDivergedError, match=r"not finite at iteration 13: .*images \d+, \d+") as error:
            run(tiny, run_dir=here / "run")
    assert "--set optimizer.lr=0.01" in error.value.hint
    assert f"fcos train --resume {here / 'run'}" in error.value.hint
    state = load_state(here / "run" / "checkpoints" / "last.state.pt")
    assert state.iteration == 10
    assert all(torch.isfinite(value).all() for value in state.model.values())


def test_a_run_folder_is_never_written_over(here: Path, tiny: Path) -> None:
    run(tiny, run_dir=here / "run")
    with pytest.raises(UsageError, match="already holds a run"):
        run(tiny, run_dir=here / "run")


def test_a_dry_run_writes_nothing(here: Path, tiny: Path) -> None:
    plan = dry_run(TrainingRequest(str(tiny)))
    assert plan is not None
    assert plan["train_images"] == 24
    assert plan["epochs"] == pytest.approx(20 * 4 / 24, abs=0.01)
    assert [p.name for p in here.iterdir()] == ["tiny.toml"]


def test_accumulated_passes_give_the_gradient_of_the_whole_batch(here: Path, tiny: Path) -> None:
    """With GroupNorm nothing but rounding may depend on how a batch is split."""
    grads = []
    for passes in (1, 2, 4):
        overrides = [f"train.accumulate={passes}", "model.backbone.norm=gn", "optimizer.clip_norm=0.0"]
        recipe = load_recipe(str(tiny), overrides).recipe
        world = World(0, 1, torch.device("cpu"))
        trainer, data, _ = setup.prepare(recipe, world, TrainingLog(None, False))
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(trainer, "update", lambda: None)
            trainer.step(next(iter(setup.make_loader(data, recipe, world, 0))))
        grads.append({name: p.grad for name, p in trainer.model.named_parameters()})
    for other in grads[1:]:
        for name, grad in grads[0].items():
            torch.testing.assert_close(other[name], grad, rtol=1e-3, atol=1e-5, msg=name)
