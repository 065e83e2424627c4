"""The script that compiles the kernels under every Triton: its versions are those allowed, failures are said."""

import importlib.util
import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("every_triton", ROOT / "kernels/every_triton.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_one_release_of_every_minor_version_that_is_allowed(script):
    allowed = re.search(r'"triton>=3\.(\d+),<3\.(\d+)"', (ROOT / "pyproject.toml").read_text())
    minors = [int(version.split(".")[1]) for version in script.VERSIONS]
    assert minors == list(range(int(allowed[1]), int(allowed[2])))


def test_a_line_says_what_was_built(script):
    row = {"target": "sm_90", "registers": 70, "spills": 0, "problems": []}
    rows = [row, row | {"registers": 255, "spills": 8, "problems": ["spills 8"]}, row | {"target": "gfx942"}]
    assert script.summary("3.8.0", rows) == (
        "triton 3.8.0: 3 builds, 8 bytes spilled, 1 with problems; most registers 255 on sm_90, 70 on gfx942"
    )


def test_a_version_that_does_not_build(script, tmp_path, capfd):
    broken = tmp_path / "3.7.1" / "triton"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('this triton is broken')")
    assert script.main(["--folder", str(tmp_path), "--only", "3.7.1"]) == script.GATE_FAILED
    said = capfd.readouterr()
    assert said.out == "3.7.1: nothing built\n"
    assert "this triton is broken" in said.err


def test_a_version_that_pip_does_not_find(script, tmp_path, monkeypatch):
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.delenv("PIP_FIND_LINKS", raising=False)
    assert script.main(["--folder", str(tmp_path), "--only", "3.6.0"]) == script.NOT_INSTALLED
