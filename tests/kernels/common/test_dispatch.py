import pytest
import torch

from fcos_kernels.common import dispatch

CPU, CUDA = torch.device("cpu"), torch.device("cuda")


@pytest.fixture(autouse=True)
def fresh(monkeypatch):
    monkeypatch.setattr(dispatch, "_choice", "auto")
    monkeypatch.delenv(dispatch.VARIABLE, raising=False)
    monkeypatch.setattr(dispatch, "has_triton", lambda: True)


def test_auto_is_triton_on_a_gpu_and_only_there(monkeypatch):
    assert dispatch.chosen() == "auto"
    assert dispatch.use_triton(CUDA)
    assert not dispatch.use_triton(CPU)
    assert "Triton kernels" in dispatch.reason(CUDA)
    assert "no cpu backend" in dispatch.reason(CPU)
    monkeypatch.setattr(dispatch, "has_triton", lambda: False)
    assert not dispatch.use_triton(CUDA)
    assert "pip install triton" in dispatch.reason(CUDA)


def test_the_environment_and_the_block(monkeypatch):
    monkeypatch.setenv(dispatch.VARIABLE, "reference")
    assert not dispatch.use_triton(CUDA)
    with dispatch.using("triton"):
        assert dispatch.use_triton(CPU)
        assert "as asked for" in dispatch.reason(CPU)
    assert dispatch.chosen() == "reference"


def test_a_wrong_choice_names_the_right_ones(monkeypatch):
    with pytest.raises(ValueError, match="auto, reference, triton, not 'cuda'"):
        dispatch.choose("cuda")
    monkeypatch.setenv(dispatch.VARIABLE, "fast")
    with pytest.raises(ValueError, match="'fast'"):
        dispatch.chosen()


def test_triton_on_a_cpu_needs_its_interpreter(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    with dispatch.using("triton"), pytest.raises(RuntimeError, match="set TRITON_INTERPRET=1"):
        dispatch.use_triton(CPU)


def test_triton_that_is_asked_for_and_missing(monkeypatch):
    monkeypatch.setattr(dispatch, "has_triton", lambda: False)
    with dispatch.using("triton"), pytest.raises(RuntimeError, match="pip install triton"):
        dispatch.use_triton(CUDA)
