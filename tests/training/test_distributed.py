"""Several processes, as torchrun starts them: the same training as alone, one writer, and none left waiting."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from fcos_cli.data.datasets import open_data
from fcos_cli.runs import RunFolder
from fcos_cli.runtime.evaluator import evaluate_detector
from fcos_cli.training import session, setup
from fcos_cli.training.checkpoint import load_state
from fcos_cli.training.log import read_rows
from fcos_cli.training.opening import TrainingRequest
from fcos_cli.training.session import train
from fcos_cli.weights.saved import load_detector

ROOT = Path(__file__).parents[2]
TIMEOUT = 120
GROUP_NORM = ('model.backbone.norm="gn"', "train.log_every=1")

# Two processes of `fcos train` without torchrun, which would end the others when one fails; one import serves both.
PAIR = """
import os, sys
import torch
from fcos_cli.app import main
from fcos_cli.report import plots
from fcos_cli.training.session import Trainer

mishap, port = sys.argv.pop(1), sys.argv.pop(1)
child = os.fork()
rank = "0" if child else "1"
os.environ |= {"WORLD_SIZE": "2", "RANK": rank, "LOCAL_RANK": rank, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
step = Trainer.step

def spoilt(self, batch):
    if mishap and self.world.rank == 1 and self.iteration == 3:
        if mishap == "disk":
            raise OSError("the disk of the second process has gone")
        with torch.no_grad():
            self.model.head.class_logits.bias.fill_(float("nan"))
    step(self, batch)

Trainer.step = spoilt
try:
    main()
finally:
    if child:
        os.waitpid(child, 0)
"""


@dataclass
class Ended:
    """A training that has ended: exit code of torchrun (of the main process), what it wrote, how long it took."""

    code: int
    out: str
    err: str
    seconds: float


@pytest.fixture(scope="module")
def squares(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set in COCO's layout: coloured rectangles of two classes on noise, all images 64 x 64, some empty."""
    root = tmp_path_factory.mktemp("data") / "squares"
    rng = np.random.default_rng(5)
    for split, count in (("train", 16), ("val", 9)):
        folder = root / split
        folder.mkdir(parents=True)
        images, annotations = [], []
        for image in range(1, count + 1):
            pixels = rng.integers(0, 90, (64, 64, 3), dtype=np.uint8)
            for category in rng.integers(0, 2, int(rng.integers(0, 4))).tolist():
                (x, y), (w, h) = rng.integers(0, 30, 2).tolist(), rng.integers(10, 34, 2).tolist()
                pixels[y : y + h, x : x + w, category] = 230
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": image,
                        "category_id": 3 + 4 * category,
                        "bbox": [x, y, w, h],
                        "area": w * h,
                        "iscrowd": 0,
                    }
                )
            images.append({"id": image, "file_name": f"{image}.png", "width": 64, "height": 64})
            Image.fromarray(pixels).save(folder / f"{image}.png")
        categories = [{"id": 3, "name": "red"}, {"id": 7, "name": "green"}]
        (root / "annotations").mkdir(exist_ok=True)
        content = {"images": images, "annotations": annotations, "categories": categories}
        (root / "annotations" / f"instances_{split}.json").write_text(json.dumps(content))
    return root


@pytest.fixture
def recipe(tiny: Path, squares: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The tiny recipe on that data set, for six iterations; nothing replaced in this process either."""
    monkeypatch.setattr(setup, "open_data", open_data)
    text = tiny.read_text().replace('dataset = "shapes"', f"dataset = {json.dumps(str(squares))}")
    text = text.replace("iterations = 20\nsteps = [15]", "iterations = 6\nsteps = [5]")
    tiny.write_text(text)
    return tiny


def launch(folder: Path, recipe: Path, *overrides: str, mishap: str | None = None) -> subprocess.Popen[str]:
    """Two processes of `fcos train`, under torchrun; with `mishap` ("" for none) as a pair of their own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", port, "-m", "fcos_cli"]
    start = torchrun if mishap is None else ["-c", PAIR, mishap, port]
    arguments = ["train", str(recipe), "--run-dir", str(folder), "--device", "cpu", "--json"]
    sets = [part for override in overrides for part in ("--set", override)]
    paths = [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]
    return subprocess.Popen(
        [sys.executable, *start, *arguments, *sets],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(paths)},
        cwd=folder.parent,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def ended(process: subprocess.Popen[str]) -> Ended:
    """Waits for a launch; whatever hangs is killed with all that it started."""
    started = time.monotonic()
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"still running after {TIMEOUT} s")
    return Ended(process.returncode, out, err, time.monotonic() - started)


def alone(folder: Path, recipe: Path, *overrides: str, **changes: object) -> session.Outcome:
    outcome = train(
        TrainingRequest(
            None if changes else str(recipe), overrides, None if changes else folder, device="cpu", **changes
        )
    )
    assert outcome is not None
    return outcome


def wait_for(condition: Callable[[], bool], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_two_processes_train_as_one(tmp_path: Path, recipe: Path) -> None:
    """Same batches, normalisers averaged over processes and passes: nothing but float32's rounding may differ."""
    both = ended(launch(tmp_path / "both", recipe, *GROUP_NORM, "train.accumulate=2"))
    assert both.code == 0, both.err
    single = alone(tmp_path / "alone", recipe, *GROUP_NORM)

    found, wanted = (
        load_file(folder / "checkpoints" / "last.safetensors") for folder in (tmp_path / "both", single.run.path)
    )
    for name, value in wanted.items():
        torch.testing.assert_close(found[name], value, rtol=1e-3, atol=2e-5, msg=name)
    rows, expected = (read_rows(run / "metrics.jsonl") for run in (tmp_path / "both", single.run.path))
    assert [row["iteration"] for row in rows] == [1, 2, 3, 4, 5, 6, 6]
    for row, other in zip(rows[:6], expected[:6], strict=True):
        for key in ("loss", "classification", "box", "quality", "positives", "lr"):
            assert row[key] == pytest.approx(other[key], rel=1e-4), (key, row["iteration"])

    # Only one process writes and speaks.
    assert json.loads(both.out)["run"] == str(tmp_path / "both")
    assert both.err.count("run folder:") == 1
    files = {str(path.relative_to(single.run.path)) for path in single.run.path.rglob("*")}
    assert {str(path.relative_to(tmp_path / "both")) for path in (tmp_path / "both").rglob("*")} == files


def test_two_processes_train_as_one_where_the_assigner_looks_at_the_outputs(
    tmp_path: Path, recipe: Path, soft_method: Path, run_fcos: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    """Then each process assigns after its forward pass, and the normalisers are still averaged."""
    soft = tmp_path / "soft.toml"
    tables = "".join(f'[{table}]\nname = "soft"\n' for table in ("assign", "model.head", "loss"))
    soft.write_text(f"extends = {json.dumps(str(recipe))}\n{tables}")
    both = ended(launch(tmp_path / "both", soft, *GROUP_NORM))
    assert both.code == 0, both.err
    sets = [part for override in GROUP_NORM for part in ("--set", override)]
    single = run_fcos("train", soft, "--run-dir", tmp_path / "single", "--device", "cpu", *sets)
    assert single.returncode == 0, single.stderr
    rows, expected = (read_rows(tmp_path / run / "metrics.jsonl") for run in ("both", "single"))
    assert len(rows) == len(expected) == 7
    for row, other in zip(rows[:6], expected[:6], strict=True):
        for key in ("loss", "classification", "sides", "positives"):
            assert row[key] == pytest.approx(other[key], rel=1e-4), (key, row["iteration"])


def test_the_weights_that_are_kept_are_those_that_were_evaluated(tmp_path: Path, recipe: Path, squares: Path) -> None:
    """Each process gathers BatchNorm statistics of its own images; the shares of an evaluation must not mix them."""
    overrides = ("model.head.prior=0.3", 'model.head.box_activation="exp"', "train.ema=0.5", "test.batch_size=2")
    process = ended(launch(tmp_path / "run", recipe, *overrides, mishap=""))
    assert process.code == 0, process.err
    detector = load_detector(tmp_path / "run")
    val = open_data(str(squares), "val")
    evaluation, results = evaluate_detector(
        detector.model, detector.recipe.test, detector.categories, val, precision="float32"
    )
    assert len(results) > 50
    assert evaluation.metrics["AR100"] > 0
    assert json.loads(process.out)["metrics"] == evaluation.metrics


def test_a_terminated_launch_can_be_resumed(tmp_path: Path, recipe: Path) -> None:
    folder = tmp_path / "run"
    process = launch(folder, recipe, "schedule.iterations=100000", "train.checkpoint_every=0", "train.log_every=1")
    wait_for(lambda: len(read_rows(folder / "metrics.jsonl")) >= 2, process)
    process.terminate()
    stopped = ended(process)
    assert stopped.code != 0
    assert stopped.seconds < 25, "torchrun had to kill a process"
    assert f"Go on: fcos train --resume {folder}" in stopped.err
    state = load_state(RunFolder(folder).state)
    assert state.iteration >= 2
    assert [row["iteration"] for row in read_rows(folder / "metrics.jsonl")][-1] == state.iteration
    overrides = [f"schedule.iterations={state.iteration + 2}", "schedule.steps=[]"]
    assert alone(folder, recipe, *overrides, resume=str(folder)).iteration == state.iteration + 2


@pytest.mark.parametrize("mishap", ["disk", "nan"])
def test_a_mishap_on_one_process_ends_both(tmp_path: Path, recipe: Path, mishap: str) -> None:
    process = ended(launch(tmp_path / "run", recipe, "schedule.iterations=1000", mishap=mishap))
    assert process.code != 0
    assert not (tmp_path / "run" / "checkpoints" / "last.state.pt").exists()
    if mishap == "disk":
        assert "the disk of the second process has gone" in process.err
    else:
        assert process.err.count("the loss is not finite at iteration 3: ") == 1
        assert "classification nan" in process.err


def test_a_mistake_that_the_main_process_finds_is_told_once(tmp_path: Path, recipe: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "recipe.toml").write_text("")
    process = ended(launch(tmp_path / "run", recipe, mishap=""))
    assert process.code != 0
    assert process.err.count("already holds a run") == 1
    assert "Connection" not in process.err


def test_a_batch_that_does_not_divide_leaves_no_folder(tmp_path: Path, recipe: Path) -> None:
    process = ended(launch(tmp_path / "run", recipe, "train.batch_size=5", mishap=""))
    assert process.code == 2
    assert process.err.count("train.batch_size = 5 does not divide into 2 processes x 1 passes") == 1
    assert "--set train.batch_size=6" in process.err
    assert not (tmp_path / "run").exists()
