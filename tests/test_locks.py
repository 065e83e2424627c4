"""A lock is one process's, until it lets go or is killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from fcos_cli.locks import HeldError, held

ROOT = Path(__file__).parents[1]
HOLD = """
import sys, time
from pathlib import Path
from fcos_cli.locks import held
with held(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.readline()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds `tmp_path / "lock"` until a line is written to it."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "lock")],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "held\n"
    yield process
    process.kill()
    process.communicate()


def test_another_process_holds_it(tmp_path, holder):
    with pytest.raises(HeldError), held(tmp_path / "lock", wait=False):
        pass
    holder.stdin.write("let go\n")
    holder.stdin.flush()
    with held(tmp_path / "lock"):
        assert holder.wait() == 0


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_killed_process_lets_go(tmp_path, holder):
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    with held(tmp_path / "lock", wait=False, remove=True):
        assert os.listdir(tmp_path) == ["lock"]
    assert os.listdir(tmp_path) == []


def test_twice_in_one_process(tmp_path):
    with held(tmp_path / "lock"), pytest.raises(HeldError), held(tmp_path / "lock", wait=False):
        pass
    with held(tmp_path / "lock", wait=False):
        pass


def test_a_folder_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError), held(tmp_path / "none" / "lock"):
        pass


def test_a_file_system_without_locks(tmp_path, monkeypatch):
    def refuse(self):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    ran = []
    with held(tmp_path / "lock", wait=False):
        ran.append(True)
    assert ran
