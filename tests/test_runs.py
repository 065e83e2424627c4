"""Which run a person means, by what its folder holds."""

import os

import pytest

from fcos_cli.errors import WeightsError
from fcos_cli.runs import RunFolder, find_weights, newest_run, resumable


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """Function: a folder below runs/ with these files in its checkpoints, written at this time."""
    monkeypatch.chdir(tmp_path)

    def make(name, *files, time=1_000):
        run = RunFolder(tmp_path / "runs" / name)
        run.checkpoints.mkdir(parents=True)
        for file in files:
            (run.checkpoints / file).write_bytes(b"")
            os.utime(run.checkpoints / file, (time, time))
        return run

    return make


def test_newest_run_goes_by_its_weights(make_run, tmp_path):
    make_run("a", "last.safetensors", time=3_000)
    make_run("b", "best.safetensors", time=2_000)
    make_run("c", "last.state.pt", time=9_000)
    assert newest_run(tmp_path / "runs") == tmp_path / "runs" / "a"


def test_no_run_says_to_train(tmp_path):
    for root in (tmp_path / "absent", tmp_path):
        with pytest.raises(WeightsError) as caught:
            newest_run(root)
        assert "fcos train" in caught.value.hint
        assert "--weights" in caught.value.hint


def test_the_best_weights_come_first_wherever_they_lie(make_run):
    run = make_run("a", "last.safetensors")
    assert find_weights(run.path) == run.last
    run.best.write_bytes(b"")
    assert find_weights("a") == run.best.relative_to(run.path.parents[1])
    assert find_weights(run.checkpoints) == run.best


def test_resumable_runs_hold_a_training_state_the_newest_first(make_run):
    make_run("a-1", "last.state.pt", time=2_000)
    make_run("a-2", "last.state.pt", time=3_000)
    make_run("b-1", "last.state.pt", time=9_000)
    make_run("a-3", "last.safetensors", time=9_000)
    assert [run.path.name for run in resumable(lambda name: name.startswith("a-"))] == ["a-2", "a-1"]
