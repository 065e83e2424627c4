"""The script that proves the kernels on a GPU: its plan, its limits, and what it keeps of a step."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest
import torch

SCRIPT = Path(__file__).parents[2] / "kernels/on_gpu.py"
ABOUT = {"gpu": "NVIDIA H100 80GB HBM3", "driver": "1"}


@pytest.fixture(scope="module")
def on_gpu():
    spec = importlib.util.spec_from_file_location("on_gpu", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    sys.modules["on_gpu"] = module
    spec.loader.exec_module(module)
    return module


def python(on_gpu, text, **options):
    return on_gpu.run(on_gpu.Step("step", [sys.executable, "-c", text], options.pop("limit", 60), **options))


def test_it_fits_in_ten_minutes_and_names_files_that_exist(on_gpu, tmp_path):
    planned = on_gpu.steps(tmp_path, tmp_path)
    assert sum(step.limit for step in planned) <= 10 * 60
    for word in (word for step in planned for word in step.command if word.startswith("tests/")):
        file, _, function = word.partition("::")
        assert (
            f"def {function}(" in (SCRIPT.parents[1] / file).read_text()
            if function
            else (SCRIPT.parents[1] / file).exists()
        ), word


def test_a_step_that_prints_json(on_gpu):
    done = python(on_gpu, "import sys; print('{\"a\": 1}'); print('a line', file=sys.stderr)", report="")
    assert (done.outcome, done.figures, done.tail) == ("passed", {"a": 1}, ["a line"])


def test_a_step_that_writes_json(on_gpu, tmp_path):
    file = tmp_path / "figures.json"
    done = python(on_gpu, f"open({str(file)!r}, 'w').write('[2]'); print('table')", report=str(file))
    assert (done.outcome, done.figures, done.tail) == ("passed", [2], ["table"])


def test_a_step_that_fails_and_one_that_never_ends(on_gpu):
    failed = python(on_gpu, "print('so far'); raise SystemExit('no')", report="")
    assert failed.outcome == "failed: exit code 1"
    assert failed.tail == ["so far", "no"]
    assert "unreadable" in failed.figures
    slow = python(on_gpu, "import time; print('here', flush=True); time.sleep(60)", limit=2)
    assert (slow.outcome, slow.tail) == ("too slow", ["here"])


def test_a_step_without_its_tool_is_left_out(on_gpu):
    assert python(on_gpu, "", needs="no-such-tool").outcome == "left out: no no-such-tool here"


def test_results_are_kept_after_every_step(on_gpu, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(on_gpu, "machine", lambda: ABOUT)
    made = [on_gpu.Step(name, [sys.executable, "-c", text], 60) for name, text in (("one", ""), ("two", "x"))]
    monkeypatch.setattr(on_gpu, "steps", lambda work, data: made)
    code = on_gpu.main(["--results", str(tmp_path), "--work", str(tmp_path / "work")])
    assert code == on_gpu.GATE_FAILED
    kept = json.loads((tmp_path / "nvidia-h100-80gb-hbm3.json").read_text())
    assert kept["machine"] == ABOUT
    assert [step["outcome"] for step in kept["steps"]] == ["passed", "failed: exit code 1"]
    assert "NameError" in capsys.readouterr().out


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so(on_gpu, tmp_path, capsys):
    assert on_gpu.main(["--results", str(tmp_path)]) == on_gpu.NO_GPU
    assert "no CUDA device here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
