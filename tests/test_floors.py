"""The floors of the house: app - commands - training, predict, ... - runtime - weights, stats - model - ground.

An import never runs up; packages of one floor, and files, form no circle; torch is imported only where it is needed.
"""

import ast
import importlib.util
import os
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (
    (
        "errors",
        "cores",
        "interrupts",
        "files",
        "runs",
        "version",
        "progress",
        "locks",
        "temporary",
        "report",
        "geometry",
    ),
    ("method",),
    ("recipe", "data", "evaluation"),
    ("model",),
    ("weights", "stats"),
    ("runtime",),
    ("training", "predict", "benchmarks", "drafting"),
    ("commands",),
    ("app",),
    ("__main__",),
)
HEIGHT = {package: height for height, packages in enumerate(FLOORS) for package in packages}
WITHOUT_TORCH = (
    "commands",
    "data",
    "stats",
    "recipe",
    "geometry",
    "evaluation",
    "report",
    "errors",
    "files",
    "cores",
    "interrupts",
    "runs",
    "version",
    "progress",
    "locks",
    "temporary",
    "app",
)
NEEDS_TORCH = {
    "fcos_cli.data.loading.tensors",
    "fcos_cli.data.loading.processes",
    "fcos_cli.data.loading.loader",
    "fcos_cli.data.loading.eval_loader",
    "fcos_cli.data.loading.streamed",
    "fcos_cli.data.sources.memory",
}
ALSO_WITHOUT_TORCH = {
    "fcos_cli.method",
    "fcos_cli.method.by_name",
    "fcos_cli.method.fcos",
    "fcos_cli.method.fcos.claims",
    "fcos_cli.method.fcos.tables",
    "fcos_cli.method.interface",
    "fcos_cli.method.registry",
    "fcos_cli.method.table",
    "fcos_cli.benchmarks.statistics",
    "fcos_cli.predict.formats",
    "fcos_cli.predict.journal",
    "fcos_cli.predict.pictures",
    "fcos_cli.predict.writer",
    "fcos_cli.weights.download",
    "fcos_cli.weights.published",
    "fcos_cli.weights.thresholds",
}


def sources(top, base=ROOT):
    return {".".join(path.relative_to(base).with_suffix("").parts): path for path in sorted((base / top).rglob("*.py"))}


CLI = sources("fcos_cli")
KERNELS = sources("fcos_kernels", ROOT / "kernels")


def package(module):
    """fcos_cli.data.records -> data; fcos_cli itself -> ""."""
    parts = [part for part in module.split(".") if part != "__init__"]
    return parts[1] if len(parts) > 1 else ""


def imported(path):
    """Dotted names of everything a file imports, wherever in it: `from a.b import c` gives a.b.c."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def edges():
    for module, path in CLI.items():
        for name in imported(path):
            if name.startswith("fcos_cli."):
                yield module, package(module), package(name)


def test_every_package_has_a_floor():
    assert {package(module) for module in CLI} - {""} <= set(HEIGHT)


def test_nothing_imports_the_package_itself():
    """`fcos_cli/__init__.py` stands above all: what it hands to users is imported from where it is."""
    assert [module for module, _, target in edges() if target not in HEIGHT] == []


def test_imports_never_run_up():
    wrong = [
        f"{module} imports {target}"
        for module, source, target in edges()
        if target in HEIGHT and source and HEIGHT[target] > HEIGHT[source]
    ]
    assert wrong == []


def test_packages_of_one_floor_form_no_circle():
    below = {source: set() for source in HEIGHT}
    for _, source, target in edges():
        if source != target and source and target in HEIGHT:
            below[source].add(target)
    while free := [name for name, targets in below.items() if not targets & below.keys()]:
        for name in free:
            del below[name]
    assert not below, f"circular imports among {sorted(below)}"


def test_files_form_no_circle():
    """Imports of a type alone count, too: two files that need each other's names are read as one."""
    graph = {m: {_file(name) for name in imported(path)} - {None, m} for m, path in (CLI | KERNELS).items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(error.args[1]))


def _file(name):
    """The module of this project that `a.b.c` is, or is a name of."""
    candidates = (name, f"{name}.__init__", name.rpartition(".")[0], f"{name.rpartition('.')[0]}.__init__")
    return next((candidate for candidate in candidates if candidate in CLI | KERNELS), None)


@pytest.mark.parametrize("other", ["model", "weights"])
def test_the_statistics_know_no_network(other):
    one = "stats"
    assert [m for m, source, target in edges() if (source, target) == (one, other)] == []


def test_libraries_speak_by_logging():
    """What a person sees is the business of programs; `log.py` has the bar of a training."""
    silent = ("data", "model", "weights", "runtime", "stats", "recipe", "evaluation", "method")
    wrong = [m for m, source, target in edges() if source in silent and target == "report"]
    assert wrong == []
    speaking = [m for m, path in CLI.items() if "fcos_cli.report.console" in set(imported(path))]
    rooms = {"app", "commands", "training"}
    assert {package(m) for m in speaking} <= rooms | {"report"}
    assert [m for m in speaking if package(m) == "training"] == ["fcos_cli.training.log"]


def test_kernels_know_nothing_of_the_toolkit():
    allowed = {"torch", "numpy", "triton", "fcos_kernels"} | sys.stdlib_module_names
    # The benchmark times torchvision's ops where it can be imported.
    also = {"fcos_kernels.bench.torchvision_ops": {"torchvision"}}
    wrong = [
        f"{m} imports {name}"
        for m, path in KERNELS.items()
        for name in imported(path)
        if _top(name) not in allowed | also.get(m, set())
    ]
    assert wrong == []


OPS = sorted(path.parent.name for path in (ROOT / "kernels/fcos_kernels").glob("*/op.py"))


@pytest.mark.parametrize("room", [*OPS, "common"])
def test_ops_are_strangers(room):
    """An op imports itself and what all share; what all share knows no op."""
    mine = {"common", room}
    names = [
        (m, name.split("."))
        for m, path in KERNELS.items()
        if m.startswith(f"fcos_kernels.{room}.")
        for name in imported(path)
    ]
    assert names
    assert [f"{m} imports {'.'.join(n)}" for m, n in names if n[0] == "fcos_kernels" and n[1] not in mine] == []


def _top(name):
    return name.split(".")[0]


def test_torch_is_imported_only_by_what_needs_it():
    """Imports every module of the torch-free packages in a fresh interpreter."""
    free = [m for m in CLI if package(m) in WITHOUT_TORCH and m not in NEEDS_TORCH] + sorted(ALSO_WITHOUT_TORCH)
    modules = [m.removesuffix(".__init__") for m in free]
    if importlib.util.find_spec("fcos_kernels.paint"):
        modules.append("fcos_kernels.paint")
    code = (
        "import importlib, sys\n"
        f"for name in {modules!r}:\n"
        "    importlib.import_module(name)\n"
        "    for heavy in ('torch', 'matplotlib', 'pycocotools'):\n"
        "        assert heavy not in sys.modules, f'importing {name} imports {heavy}'\n"
    )
    done = subprocess.run([sys.executable, "-c", code], env=_environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def _environment():
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "kernels")])}
