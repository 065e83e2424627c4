"""The script that proves the kernels on a GPU: its plan, what it keeps when it is cut, that it goes on from there."""

import json
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from fcos_kernels.bench import journal
from fcos_kernels.ops import OPS

SCRIPT = Path(__file__).parents[2] / "kernels/on_gpu.py"
ROOT = SCRIPT.parents[1]
sys.path.append(str(SCRIPT.parent))

import on_gpu  # noqa: E402
from gpu_proof import missing, running  # noqa: E402
from gpu_proof.cache import take_over  # noqa: E402
from gpu_proof.steps import PROCESSES, Step, steps  # noqa: E402

ORDER = ["smoke", "bench", "train", "predict 1", "predict 16", "bccd", "bccd, plain ops", "tests"]
ORDER += ["memcheck", "racecheck", "bench, compiled"]
MACHINE = {"gpu": "NVIDIA H100 80GB HBM3", "driver": "1"}


def python(tmp_path, text, left=60.0, **options):
    step = Step("step", [[sys.executable, "-c", text]], options.pop("limit", 60), **options)
    return running.run(step, tmp_path, ROOT, left, None)


def test_steps_come_by_worth_and_name_what_exists(tmp_path):
    planned = steps(tmp_path, tmp_path, False)
    assert [step.name for step in planned] == ORDER
    for word in (word for step in planned for word in step.commands[0] if word.startswith("tests/")):
        file, _, function = word.partition("::")
        assert (ROOT / file).exists(), word
        assert f"def {function}(" in (ROOT / file).read_text() if function else True, word
    smoke, tests = planned[0], planned[7]
    assert sum(f"/{op.folder}/" in word for op in OPS for word in smoke.commands[0]) == sum(
        len(op.sanitized) for op in OPS
    )
    assert [each["FCOS_SHARE"] for each in tests.environments] == [f"{n}/{PROCESSES}" for n in range(PROCESSES)]
    assert smoke.limit + planned[1].limit < 300


def test_all_steps_share_the_caches_of_the_work_folder(tmp_path):
    done = python(tmp_path, "import os, json; print(json.dumps(dict(os.environ)))", report="")
    assert done.figures["TRITON_CACHE_DIR"] == str(tmp_path / "triton-cache")
    assert done.figures["TORCHINDUCTOR_CACHE_DIR"] == str(tmp_path / "inductor-cache")


def test_a_step_that_prints_or_writes_json(tmp_path):
    done = python(tmp_path, "import sys; print('{\"a\": 1}'); print('a line', file=sys.stderr)", report="")
    assert (done.outcome, done.figures, done.tail) == ("passed", {"a": 1}, ["a line"])
    file = tmp_path / "figures.json"
    done = python(tmp_path, f"open({str(file)!r}, 'w').write('[2]'); print('table')", report=str(file))
    assert (done.outcome, done.figures, done.tail) == ("passed", [2], ["table"])


def test_a_step_that_fails_and_one_that_never_ends(tmp_path):
    failed = python(tmp_path, "print('so far'); raise SystemExit('no')", report="")
    assert failed.outcome == "failed: exit code 1"
    assert failed.tail == ["so far", "no"]
    assert "unreadable" in failed.figures
    endless = "import time; print('here', flush=True); time.sleep(60)"
    slow = python(tmp_path, endless, limit=2)
    assert (slow.outcome, slow.tail, slow.final) == ("too slow", ["here"], False)
    cut = python(tmp_path, endless, left=2)
    assert (cut.outcome, cut.final) == ("cut", False)


def test_a_step_without_what_it_needs_is_left_out(tmp_path):
    assert python(tmp_path, "", needs="no-such-tool").outcome == "left out: no no-such-tool here"
    assert python(tmp_path, "", packages={"no_such": "no-such"}).outcome == "left out: missing no-such"
    assert python(tmp_path, "", folder=tmp_path / "none").outcome == f"left out: no folder {tmp_path / 'none'}"


def test_what_is_missing_is_said_with_the_command_that_brings_it(tmp_path, monkeypatch):
    monkeypatch.setattr(missing, "TOOLKIT", {"no_such_module": "no-such-package"})
    lines = "\n".join(missing.report(tmp_path / "none"))
    assert "missing packages: no-such-package" in lines
    assert "pip download --dest wheels" in lines
    assert "--no-index --find-links wheels no-such-package" in lines
    assert f"no folder {tmp_path / 'none'}" in lines


def test_a_journal_outlives_a_line_written_in_part(tmp_path):
    file = tmp_path / "journal.jsonl"
    journal.append(file, {"case": 1})
    with file.open("a") as open_file:
        open_file.write('\n{"case": 2, "figu')
    journal.append(file, {"case": 3})
    assert journal.read(file) == [{"case": 1}, {"case": 3}]
    assert journal.read(tmp_path / "none") == []


def test_a_cache_that_was_moved_names_its_files_where_they_are(tmp_path):
    old, new = tmp_path / "old", tmp_path / "new"
    (old / "KEY").mkdir(parents=True)
    (old / "KEY/a.cubin").write_bytes(b"code")
    paths = {"a.cubin": "/elsewhere/KEY/a.cubin", "a.json": "/elsewhere/KEY/a.json"}
    (old / "KEY/__grp__a.json").write_text(json.dumps({"child_paths": paths}))
    new.mkdir()
    assert take_over(old, new) == 1
    found = json.loads((new / "KEY/__grp__a.json").read_text())["child_paths"]
    assert Path(found["a.cubin"]).read_bytes() == b"code"
    assert list(found) == list(paths)
    assert take_over(old, new) == 0
    assert [path.name for path in new.iterdir()] == ["KEY"]


def test_without_a_gpu_it_says_so_at_once(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(missing, "machine", lambda: {"gpu": "-"})
    began = time.perf_counter()
    assert on_gpu.main(["--results", str(tmp_path / "results"), "--work", str(tmp_path)]) == on_gpu.NO_GPU
    assert time.perf_counter() - began < 5
    assert "no CUDA device here" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("option", ["--cache", "--wheels"])
def test_a_folder_that_is_not_there(option, tmp_path, capsys):
    assert on_gpu.main([option, str(tmp_path / "none"), "--work", str(tmp_path)]) == on_gpu.USAGE
    assert f"no folder {tmp_path / 'none'}" in capsys.readouterr().err


@pytest.fixture
def two_steps(monkeypatch, tmp_path):
    """Two steps on a GPU that is not there; the second one fails."""
    monkeypatch.setattr(missing, "machine", lambda: dict(MACHINE))
    made = [Step(name, [[sys.executable, "-c", text]], 60) for name, text in (("one", ""), ("two", "x"))]
    monkeypatch.setattr(on_gpu, "steps", lambda work, data, rehearse: made)
    return ["--results", str(tmp_path / "results"), "--work", str(tmp_path / "work")]


def test_results_are_kept_and_a_run_is_not_written_over(two_steps, tmp_path, capsys):
    assert on_gpu.main(two_steps) == on_gpu.GATE_FAILED
    file = tmp_path / "results/nvidia-h100-80gb-hbm3.json"
    kept = json.loads(file.read_text())
    assert kept["machine"].items() >= MACHINE.items()
    assert [step["outcome"] for step in kept["steps"]] == ["passed", "failed: exit code 1"]
    assert "NameError" in capsys.readouterr().out
    assert on_gpu.main(two_steps) == on_gpu.USAGE
    assert "--resume goes on with it" in capsys.readouterr().err
    assert on_gpu.main([*two_steps, "--resume"]) == on_gpu.GATE_FAILED
    assert "one: passed before" in capsys.readouterr().out
    file.unlink()
    assert on_gpu.main([*two_steps, "--collect"]) == 0
    assert json.loads(file.read_text()) == kept


def test_no_time_left_is_no_failure(two_steps):
    assert on_gpu.main([*two_steps, "--budget", "1"]) == on_gpu.CUT
    assert on_gpu.main([*two_steps, "--resume", "one"]) == 0


TESTS = """
import os, time
import pytest

@pytest.mark.parametrize("case", range(6))
def test_case(case):
    time.sleep(0.1)
    if case == 2:
        pytest.skip("not here")
    if case == 4:
        os._exit(1)
    assert case != 3, "three"
"""


def test_a_test_that_takes_its_process_down_does_not_keep_the_others_from_running(tmp_path):
    (tmp_path / "test_it.py").write_text(TESTS)
    file = tmp_path / "tests.jsonl"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "gpu_proof.pytest_journal", "-p", "no:cacheprovider"]
    shares = [{"FCOS_JOURNAL": str(file), "FCOS_SHARE": f"{share}/2"} for share in range(2)]
    step = Step("tests", [[*command, str(tmp_path)]] * 2, 100, file, environments=shares)
    for _ in range(5):
        done = running.run(step, tmp_path, ROOT, 100, None)
    assert (done.figures["passed"], done.figures["skipped"], done.figures["failed"]) == (3, 1, 2)
    assert done.outcome == "failed: 2 cases"
    why = {record["case"].split("::")[1]: record["why"] for record in done.figures["failures"]}
    assert "three" in why["test_case[3]"]
    assert why["test_case[4]"] == "ends its process"
    begun = Counter(record["case"].split("::")[1] for record in journal.read(file) if "begun" in record)
    assert begun == {f"test_case[{case}]": 4 if case == 4 else 1 for case in range(6)}


def test_a_rehearsal_that_is_killed_again_and_again_ends_with_every_case_once(tmp_path):
    """Killed after random times, resumed until it is done; no case that was finished runs again."""
    rng = random.Random(time.time_ns())
    command = [sys.executable, str(SCRIPT), "--rehearse", "--resume", "--work", str(tmp_path / "work")]
    command += ["--results", str(tmp_path / "results"), "bench", "tests"]
    pauses, outputs = [], []
    for attempt in range(40):
        pauses.append(rng.uniform(2, 5 + 15 * attempt) if attempt else rng.uniform(0.5, 3))
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        try:
            outputs.append(process.communicate(timeout=pauses[-1])[0])
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.communicate()
            continue
        break
    assert process.returncode == 0, (pauses, outputs)
    assert len(pauses) > 1
    kept = {step["name"]: step for step in json.loads((tmp_path / "results/rehearsal.json").read_text())["steps"]}
    assert kept["bench"]["outcome"] == kept["tests"]["outcome"] == "passed"
    cases = Counter((row["op"], row["size"]) for row in kept["bench"]["figures"]["results"])
    assert {op for op, _ in cases} == {op.name for op in OPS if op.name != "nms"} | {"postprocess"}
    assert set(cases.values()) == {1}
    ended = Counter(row["case"] for row in journal.read(tmp_path / "work/tests.jsonl") if "outcome" in row)
    assert set(ended.values()) == {1}
    assert kept["tests"]["figures"]["passed"] == len(ended) >= 5
