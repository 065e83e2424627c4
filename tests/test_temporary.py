"""What a killed process leaves is swept away; what a living one writes is not."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from fcos_cli import temporary
from fcos_cli.files import atomic_file, atomic_folder, check_writable
from fcos_cli.temporary import sweep, temporary_for

ROOT = Path(__file__).parents[1]
WRITE = """
import sys
from fcos_cli.files import atomic_file, atomic_folder
make = atomic_folder if sys.argv[1].endswith("folder") else atomic_file
with make(sys.argv[1]) as made:
    (made / "part").touch() if make is atomic_folder else made.write(b"half")
    print("writing", flush=True)
    sys.stdin.readline()
"""

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="whether a process runs is asked in POSIX's way")


@pytest.fixture
def writing(tmp_path):
    """Function: starts a process that is in the middle of writing `tmp_path / name`."""
    started = []

    def start(name: str) -> subprocess.Popen:
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
        command = [sys.executable, "-c", WRITE, str(tmp_path / name)]
        process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout.readline() == "writing\n"
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def left(folder):
    return sorted(os.listdir(folder))


@pytest.mark.parametrize("name", ["last.state.pt", "a folder"])
def test_of_a_killed_process_and_of_a_living_one(tmp_path, writing, name):
    process = writing(name)
    (leftover,) = left(tmp_path)
    assert leftover.startswith(f".{name}.")
    sweep(tmp_path)
    assert left(tmp_path) == [leftover]
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert left(tmp_path) == [leftover]
    sweep(tmp_path, "another")
    assert left(tmp_path) == [leftover]
    sweep(tmp_path)
    assert left(tmp_path) == []


def test_the_next_start_sweeps(tmp_path, writing):
    for name in ("preds.json", "a folder"):
        process = writing(name)
        process.send_signal(signal.SIGKILL)
        process.wait()
    check_writable(tmp_path / "preds.json")
    assert len(left(tmp_path)) == 1
    with atomic_folder(tmp_path / "a folder"):
        pass
    assert left(tmp_path) == ["a folder"]


def test_what_this_process_writes_stays(tmp_path):
    with atomic_file(tmp_path / "one") as file:
        sweep(tmp_path)
        file.write(b"whole")
    assert (tmp_path / "one").read_bytes() == b"whole"


def test_a_former_process_of_the_same_number(tmp_path, monkeypatch):
    temporary_for(tmp_path / "one").touch()
    monkeypatch.setattr(temporary, "_made", set())
    sweep(tmp_path)
    assert left(tmp_path) == []


@pytest.mark.parametrize("name", [".last.state.pt.0123abcd.tmp", ".last.state.pt.{host}-1-0123.tmp"])
def test_of_who_knows_whom_when_nobody_has_written_for_an_hour(tmp_path, monkeypatch, name):
    other = "0000" if temporary._host() != "0000" else "0001"
    path = tmp_path / name.format(host=other)
    path.touch()
    sweep(tmp_path)
    assert left(tmp_path) == [path.name]
    ago = time.time() - temporary.UNTOUCHED_SECONDS - 1
    os.utime(path, (ago, ago))
    sweep(tmp_path)
    assert left(tmp_path) == []
    path.mkdir()
    os.utime(path, (ago, ago))
    sweep(tmp_path)
    assert left(tmp_path) == [path.name]


def test_other_files_stay_and_a_missing_folder_is_none(tmp_path):
    names = [".a.tmp", "a.0123abcd.tmp", ".a.0123abcd.part", ".a.xyz-1-0123.tmp", ".gitignore"]
    ago = time.time() - 10 * temporary.UNTOUCHED_SECONDS
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (ago, ago))
    sweep(tmp_path)
    assert left(tmp_path) == sorted(names)
    sweep(tmp_path / "missing")
