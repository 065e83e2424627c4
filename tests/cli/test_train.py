"""`fcos train` through the entry point: what it prints where, its exit codes, and how a training is gone on with."""

import json
import os
import re
import signal

import pytest

from fcos_cli.data.shapes import dataset as shapes

NAMES = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]


@pytest.fixture(autouse=True)
def few_images(monkeypatch, tmp_path):
    """`shapes` with few images, and a working directory of the test's own."""
    for split, count in {"train": 24, "val": 6}.items():
        monkeypatch.setitem(shapes.SPLITS, split, count)
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def signal_at(monkeypatch):
    """Function: the iteration after which this process is sent a signal, once."""
    from fcos_cli.training.trainer import Trainer

    def set_up(iteration, number=signal.SIGINT):
        step = Trainer.step

        def then_signal(self, batch):
            step(self, batch)
            if self.iteration == iteration:
                os.kill(os.getpid(), number)

        monkeypatch.setattr(Trainer, "step", then_signal)

    return set_up


def runs(tmp_path):
    return sorted((tmp_path / "runs").iterdir()) if (tmp_path / "runs").is_dir() else []


def test_json_is_all_that_stands_on_stdout(fcos, tiny, tmp_path):
    result = fcos("train", tiny, "--json", "--set", "schedule.iterations=6", "--set", "schedule.steps=[]")
    assert result.code == 0, result.err
    told = json.loads(result.out)
    assert list(told["metrics"]) == NAMES
    assert all(value is None or 0 <= value <= 1 for value in told["metrics"].values())
    assert (told["iteration"], told["interrupted"]) == (6, False)
    (run,) = runs(tmp_path)
    assert (tmp_path / told["run"]).samefile(run)
    assert run.name.startswith("tiny-")
    assert re.search(r"6/6  epoch .* loss .* class .* box .* quality .* positives .* lr .* images/s", result.err)
    assert json.loads((run / "evaluation" / "best.json").read_text())["metrics"] == told["metrics"]
    # The run is the newest one: eval takes it, and comes to the same figures, in the precision of the training.
    again = fcos("eval", "--json")
    assert json.loads(again.out)["metrics"] == told["metrics"]


def test_for_people(fcos, tiny, tmp_path):
    result = fcos("train", tiny, "--run-dir", "mine/first")
    assert result.code == 0, result.err
    assert "AP50" in result.out
    assert "loss" not in result.out
    assert "run folder: mine/first" in result.err
    assert "next: fcos predict IMAGES --weights mine/first --out preds.json" in result.err
    assert (tmp_path / "mine" / "first" / "pictures" / "detections.png").is_file()
    again = fcos("train", tiny, "--run-dir", "mine/first")
    assert again.code == 2
    assert "already holds a run" in again.err
    done = fcos("train", "--resume", "mine/first")
    assert done.code == 2
    assert "is complete: it has done 20 of 20 iterations" in done.err
    assert "--set schedule.iterations=40" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_and_says_how_to_go_on(fcos, tiny, tmp_path, signal_at, number):
    signal_at(7, number)
    result = fcos("train", tiny, "--json")
    assert result.code == 130
    told = json.loads(result.out)
    assert (told["iteration"], told["interrupted"], told["metrics"]) == (7, True, None)
    assert f"stopped at iteration 7; all is saved. Go on: fcos train --resume {told['run']}" in result.err
    assert "stopped at iteration 7 by a signal" in (tmp_path / told["run"] / "log.txt").read_text()


@pytest.mark.parametrize(
    "order",
    [("RECIPE", "--resume"), ("--resume",), ("--resume", "RUN")],  # others: test_app.py
    ids=" ".join,
)
def test_resume_with_and_without_a_run(fcos, tiny, tmp_path, signal_at, order):
    signal_at(3)
    steps = ("--set", "schedule.iterations=5", "--set", "schedule.steps=[]")
    assert fcos("train", tiny, *steps).code == 130
    (run,) = runs(tmp_path)
    words = [word.replace("RECIPE", str(tiny)).replace("RUN", str(run)) for word in order]
    result = fcos("train", *words, *steps, "--json")
    assert result.code == 0, result.err
    assert "resumed at iteration 3 of 5" in result.err
    told = json.loads(result.out)
    assert told["iteration"] == 5
    assert list(told["metrics"]) == NAMES
    assert runs(tmp_path) == [run]


def test_a_dry_run_tells_the_plan_and_writes_nothing(fcos, tiny, tmp_path):
    before = sorted(tmp_path.rglob("*"))
    result = fcos("train", tiny, "--dry-run", "--json")
    assert result.code == 0, result.err
    plan = json.loads(result.out)
    assert (plan["recipe"], plan["train_images"], plan["val_images"], plan["iterations"]) == ("tiny", 24, 6, 20)
    assert plan["seconds_per_iteration"] > 0
    assert sorted(tmp_path.rglob("*")) == before
    assert fcos("train", tiny, "--dry-run", "--resume").code == 2


def test_all_mistakes_of_a_recipe_at_once(fcos, tiny, tmp_path):
    wrong = ("train.batchsize=8", "model.backbone.norm=frozenbn", 'train.seed="7"', "schedule.steps=[90]")
    result = fcos("train", tiny, *(word for text in wrong for word in ("--set", text)))
    assert result.code == 2
    assert not result.out
    assert "4 problems" in result.err
    assert "unknown key train.batchsize; did you mean train.batch_size? (--set)" in result.err
    assert 'must be one of "frozen_bn", "bn", "gn"; did you mean "frozen_bn"?' in result.err
    assert 'train.seed = "7" must be a whole number >= 0; did you mean 7?' in result.err
    assert "schedule.steps = [90] reach beyond schedule.iterations = 20" in result.err
    assert not runs(tmp_path)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ((), 2, "which recipe?"),
        (("shape",), 2, "did you mean shapes?"),
        (("RECIPE", "--set", "lr"), 2, "there is no ="),
        (("RECIPE", "--resume"), 2, "no run of the recipe tiny to resume"),
        (("--resume", "nowhere"), 2, "nowhere is not a run folder"),
        (("--resume", "--run-dir", "x"), 2, "leave --run-dir away"),
        (("RECIPE", "--set", "data.dataset=nowhere"), 3, "no data set nowhere"),
        (("RECIPE", "--set", "data.val_split=tset"), 3, "did you mean test?"),
        (("RECIPE", "--set", "model.weights=nowhere"), 4, "there are no weights at nowhere"),
        (("RECIPE", "--device", "abacus"), 4, "there is no device 'abacus' here"),
        (("RECIPE", "--run-dir", "tiny.toml/run"), 4, "cannot write the run folder"),
    ],
)
def test_mistakes(fcos, tiny, tmp_path, words, code, said):
    result = fcos("train", *(word.replace("RECIPE", str(tiny)) for word in words))
    assert result.code == code, result.err
    assert said in result.err
    assert "hint: " in result.err
    assert not result.out
    assert not runs(tmp_path)


def test_a_loss_that_is_not_finite(fcos, tiny, tmp_path):
    steep = ("--set", "optimizer.lr=1e6", "--set", "optimizer.clip_norm=0.0", "--run-dir", "steep")
    for _ in range(2):  # nothing was saved, so that the same command may be given again
        result = fcos("train", tiny, *steep, "--json")
        assert result.code == 1
        assert not result.out
        assert re.search(r"the loss is not finite at iteration \d+: .*; images \d+", result.err)
        assert "a lower rate (--set optimizer.lr=500000)" in result.err
        assert "Traceback" not in result.err
        assert "error: the loss is not finite" in (tmp_path / "steep" / "log.txt").read_text()


def test_what_was_not_used_of_the_data_is_said_once_and_refused_by_strict(fcos, tiny, make_images):
    folder = make_images({f"images/{split}/{i}.png": (64, 48) for split in ("train", "val") for i in range(4)}, "set")
    for split in ("train", "val"):
        (folder / "labels" / split).mkdir(parents=True)
        for number in range(4):
            (folder / "labels" / split / f"{number}.txt").write_text("0 0.5 0.5 0.4 0.4\n")
    (folder / "labels" / "train" / "2.txt").write_text("0 0.5 0.5 0.4 0.4\nzero\n")
    (folder / "labels" / "val" / "3.txt").unlink()
    (folder / "data.yaml").write_text("train: images/train\nval: images/val\nnames: [a]")
    (folder / "more.csv").write_text("a,b")
    told = (
        "lines that are not `class cx cy w h` or a polygon (1): labels/train/2.txt:2: not numbers: zero",
        "images without a label file, which count as images without objects (1): images/val/3.png",
        "files that look like annotations and were not read (1): more.csv",
    )
    result = fcos("train", tiny, "--set", f"data.dataset={folder}", "--dry-run")
    assert result.code == 0, result.err
    for line in told:
        (said,) = (text for text in result.err.splitlines() if line in text)
        assert said.startswith("warning: ")
    strict = fcos("train", tiny, "--set", f"data.dataset={folder}", "--dry-run", "--strict")
    assert strict.code == 3
    assert all(line in strict.err for line in told)
    assert "warning: " not in strict.err
    assert fcos("data", "check", folder).code == 0
    strict = fcos("data", "check", folder, "--strict")
    assert strict.code == 3
    assert strict.err.count("error: ") == len(told)
