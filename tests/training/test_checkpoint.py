"""The training state on disk: written whole, read back, and clear about what went wrong."""

from collections import namedtuple
from pathlib import Path

import pytest
import torch

from fcos_cli.errors import SetupError, WeightsError
from fcos_cli.training import checkpoint
from fcos_cli.training.checkpoint import TrainingState, load_state, save_state

Usage = namedtuple("Usage", ["total", "used", "free"])


def state(iteration: int = 3) -> TrainingState:
    momentum = {"state": {0: {"momentum_buffer": torch.ones(256, 1024)}}, "param_groups": []}
    model = {"weight": torch.ones(256, 1024)}
    return TrainingState(iteration, "pytorch", model, momentum, None, None, torch.get_rng_state())


def test_what_is_saved_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "last.state.pt"
    save_state(path, state(7))
    found = load_state(path)
    assert found.iteration == 7
    assert torch.equal(found.model["weight"], torch.ones(256, 1024))


@pytest.mark.parametrize("resumable", [False, True])
def test_a_full_disk_is_called_that(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, resumable: bool) -> None:
    path = tmp_path / "run" / "checkpoints" / "last.state.pt"
    if resumable:
        save_state(path, state(3))

    def full(*_: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:672] . unexpected pos 456704 vs 456600")

    monkeypatch.setattr(torch, "save", full)
    monkeypatch.setattr(checkpoint.shutil, "disk_usage", lambda _: Usage(4 << 20, (4 << 20) - 1000, 1000))
    with pytest.raises(SetupError, match="the disk is full, 2 MiB are needed") as error:
        save_state(path, state(4))
    assert "enforce fail" not in error.value.message
    assert ("fcos train --resume" in error.value.hint) == resumable
    assert [file.name for file in path.parent.iterdir()] == (["last.state.pt"] if resumable else [])
    if resumable:
        assert load_state(path).iteration == 3


def test_another_cause_keeps_its_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def odd(*_: object) -> None:
        raise RuntimeError("something odd")

    monkeypatch.setattr(torch, "save", odd)
    with pytest.raises(SetupError, match="something odd"):
        save_state(tmp_path / "last.state.pt", state())


@pytest.mark.parametrize("content", [b"", b"no state at all"])
def test_a_damaged_state_says_how_to_go_on(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "last.state.pt"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match="cannot read the training state") as error:
        load_state(path)
    assert "model.weights=" in error.value.hint
