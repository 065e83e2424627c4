"""The table of ops: complete, and true of the folders, the registrations, the benchmark and the sanitizers' tests."""

import ast
import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from fcos_kernels.bench.__main__ import CASES
from fcos_kernels.ops import OPS

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "kernels/fcos_kernels"
FILES = ("__init__", "op", "launch", "plain", "reference")
each = pytest.mark.parametrize("op", OPS, ids=lambda op: op.folder)


def functions(path):
    return {node.name for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)}


def test_every_folder_with_an_op_is_in_the_table():
    assert sorted(op.folder for op in OPS) == sorted(path.parent.name for path in PACKAGE.glob("*/op.py"))
    assert len({op.name for op in OPS}) == len(OPS)


@each
def test_a_folder_has_the_usual_files(op):
    folder = PACKAGE / op.folder
    assert {f"{name}.py" for name in FILES} <= {path.name for path in folder.glob("*.py")}
    assert list(folder.glob("triton_*.py"))
    assert {"test_op.py", "test_triton.py"} <= {path.name for path in (ROOT / "tests/kernels" / op.folder).iterdir()}


def test_kernels_lie_in_triton_files_and_nothing_else_does():
    for path in PACKAGE.rglob("*.py"):
        inside = [node for node in ast.parse(path.read_text()).body if isinstance(node, ast.FunctionDef)]
        jitted = [any("triton.jit" in ast.unparse(x) for x in node.decorator_list) for node in inside]
        assert jitted == [path.name.startswith("triton_")] * len(jitted), path


def test_every_registered_op_is_in_the_table():
    for op in OPS:
        importlib.import_module(f"fcos_kernels.{op.folder}.op")
    names = [name for op in OPS for name in op.registered]
    here = {
        name.split("::")[1].split(".")[0] for name in torch._C._dispatch_get_all_op_names() if "fcos_kernels::" in name
    }
    assert sorted(names) == sorted(here)


@each
def test_each_has_cases_and_tests_for_the_sanitizers(op):
    assert CASES[op.name] == op.folder
    assert "cases" in functions(PACKAGE / "bench" / f"{op.folder}.py")
    assert op.sanitized
    assert set(op.sanitized) <= functions(ROOT / "tests/kernels" / op.folder / "test_triton.py")


@each
def test_each_kernel_that_is_launched_is_compiled_ahead(op):
    pytest.importorskip("triton")
    variants = importlib.import_module(f"fcos_kernels.{op.folder}.launch").variants()
    compiled = {variant.kernel.__name__ for variant in variants}
    written = {name for path in (PACKAGE / op.folder).glob("triton_*.py") for name in functions(path)}
    assert compiled == {name for name in written if name.endswith("_kernel")}


def test_the_table_imports_neither_torch_nor_an_op():
    heavy = {"torch", "triton", "numpy", "fcos_kernels.assign"}
    code = f"import sys, fcos_kernels.ops; assert not {heavy} & set(sys.modules)"
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
