"""The comparison of two records: what differs is named, and the exit code says so."""

import subprocess
import sys
from pathlib import Path

import pytest

GUARD = Path(__file__).with_name("guard.py")


@pytest.fixture
def records(tmp_path):
    """Function: {file: text} of each of two records -> `guard.py compare` of them."""

    def compare(*contents):
        sides = [tmp_path / "old", tmp_path / "new"]
        for side, files in zip(sides, contents, strict=True):
            for name, text in files.items():
                path = side / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
        command = [sys.executable, GUARD, "compare", *sides]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    return compare


def test_equal_records(records):
    same = {"resume/tensors": "a\nb\n", "kept/run": "old"}
    done = records(same, {**same, "kept/run": "new"})
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "equal: resume")


def test_a_line_that_differs_is_shown(records):
    done = records({"resume/tensors": "a\nb\nc\n"}, {"resume/tensors": "a\nx\nc\n"})
    assert done.returncode == 5
    assert "DIFFERS resume/tensors\n  - b\n  + x\n  2 lines left out or put in\n" in done.stdout


def test_a_line_that_is_put_in_moves_no_other(records):
    done = records({"resume/tensors": "a\nb\n"}, {"resume/tensors": "x\na\nb\n"})
    assert "  + x\n  1 lines left out or put in\n" in done.stdout


def test_long_files_are_compared_line_by_line(records):
    lines = [f"{number}\n" for number in range(6000)]
    done = records({"p/boxes": "".join(lines)}, {"p/boxes": "".join([*lines[:5999], "x\n"])})
    assert "DIFFERS p/boxes\n  - 5999\n  + x\n  2 lines left out or put in\n" in done.stdout


def test_a_file_that_only_one_has_differs(records):
    done = records({"stats/bpr": "1\n"}, {"stats/bpr": "1\n", "stats/tables": "2\n"})
    assert done.returncode == 5
    assert "DIFFERS stats/tables\n  - (absent)\n  + 2\n" in done.stdout


def test_a_part_that_one_lacks_is_said(records):
    done = records({"stats/bpr": "1\n", "shapes/result": "2\n"}, {"stats/bpr": "1\n"})
    assert done.returncode == 0
    assert "not compared, only one has it: shapes\n" in done.stdout


def test_records_of_different_parts_are_no_proof(records):
    done = records({"stats/bpr": "1\n"}, {"resume/tensors": "1\n"})
    assert (done.returncode, done.stdout.splitlines()[-1]) == (5, "no part is in both")
