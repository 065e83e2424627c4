"""The loaders' processes: how many, how they end, and who hears Ctrl-C."""

import multiprocessing
import os
import signal
import subprocess
import sys
import textwrap
import time
from itertools import islice

import pytest
import torch

from fcos_cli.data.loading.eval_loader import eval_batches
from fcos_cli.data.loading.loader import TrainLoader
from fcos_cli.data.loading.processes import choose_workers
from fcos_cli.data.records import DetectionData
from fcos_cli.data.shapes.dataset import shapes_data
from fcos_cli.errors import SetupError
from fcos_cli.recipe.schema import DataConfig

CONFIG = DataConfig(short_side=96)


@pytest.fixture(scope="module")
def data() -> DetectionData:
    return shapes_data("val", count=50)


def test_workers_are_chosen_by_the_cores(monkeypatch):
    def chosen(cores: int, ranks: int = 1) -> int:
        monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)), raising=False)
        monkeypatch.setenv("LOCAL_WORLD_SIZE", str(ranks))
        return choose_workers(-1)

    assert [chosen(1), chosen(2), chosen(4), chosen(64)] == [0, 1, 3, 8]
    assert [chosen(16, 8), chosen(8, 8)] == [1, 0]
    assert choose_workers(0) == 0
    assert choose_workers(5) == 5


def test_loading_leaves_the_global_random_stream_alone(data):
    torch.manual_seed(5)
    list(islice(TrainLoader(data, CONFIG, batch_size=4, seed=0, workers=1), 2))
    list(eval_batches(data, 100, 160, 16, workers=1))
    drawn = torch.rand(3)
    torch.manual_seed(5)
    assert torch.equal(drawn, torch.rand(3))


def until_no_children(seconds: float = 10.0) -> bool:
    end = time.monotonic() + seconds
    while multiprocessing.active_children() and time.monotonic() < end:
        time.sleep(0.05)
    return not multiprocessing.active_children()


def test_workers_end_with_the_iterator(data):
    batches = iter(TrainLoader(data, CONFIG, batch_size=4, seed=0, workers=2))
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    batches.close()
    assert until_no_children()
    evaluation = eval_batches(data, 100, 160, 4, workers=2)
    next(evaluation)
    del evaluation
    assert until_no_children()


def test_a_killed_worker_is_a_clear_error(data):
    assert until_no_children()
    batches = iter(TrainLoader(data, CONFIG, batch_size=4, seed=0, workers=1))
    next(batches)
    (worker,) = multiprocessing.active_children()
    os.kill(worker.pid, signal.SIGKILL)
    with pytest.raises(SetupError, match="a loader process died") as caught:
        list(islice(batches, 200))
    assert "data.workers=0" in caught.value.hint
    assert until_no_children()


@pytest.mark.skipif(sys.platform == "win32", reason="process groups are POSIX")
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_group_stops_without_tracebacks_of_workers(stop):
    """A terminal sends Ctrl-C to the whole process group: only the main process may act on it, and say so."""
    program = """
        import signal
        from fcos_cli.data.loading.loader import TrainLoader
        from fcos_cli.data.shapes.dataset import shapes_data
        from fcos_cli.recipe.schema import DataConfig
        # A shell starts background jobs, and so these tests, with SIGINT ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, lambda *_: signal.raise_signal(signal.SIGINT))
        try:
            loader = TrainLoader(shapes_data("val"), DataConfig(short_side=96), batch_size=8, seed=0, workers=2)
            for number, batch in enumerate(loader):
                if number == 1:
                    print("running", flush=True)
        except KeyboardInterrupt:
            print("stopped", flush=True)
    """
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout.readline() == "running\n"
        os.killpg(process.pid, stop)
        out, err = process.communicate(timeout=60)
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    assert out == "stopped\n"
    assert err == ""
    assert process.returncode == 0
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
