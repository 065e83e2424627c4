"""What this machine lacks for the steps, found without importing any of it."""

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import subprocess
from pathlib import Path

TESTS = {"pytest": "pytest", "pytest_timeout": "pytest-timeout", "hypothesis": "hypothesis"}
TOOLKIT = {
    "pydantic": "pydantic",
    "msgspec": "msgspec",
    "pycocotools": "pycocotools",
    "tomli_w": "tomli-w",
    "typer": "typer",
    "rich": "rich",
    "safetensors": "safetensors",
    "filelock": "filelock",
    "PIL": "pillow",
    "matplotlib": "matplotlib",
    "yaml": "pyyaml",
}
KERNELS = {"torch": "torch", "triton": "triton", "numpy": "numpy"}
VERSIONS = ("torch", "triton", "torchvision", "numpy")


def packages(modules: dict[str, str]) -> list[str]:
    """Those of `modules` (import name -> name to install) that are not there, as pip calls them."""
    return [name for module, name in modules.items() if importlib.util.find_spec(module) is None]


def machine() -> dict[str, str]:
    """The GPU ("-" where there is none), its driver, versions."""
    query = ["nvidia-smi", "--query-gpu=name,driver_version", "--format=csv,noheader"]
    try:
        first = subprocess.run(query, capture_output=True, text=True, check=True, timeout=4).stdout.split("\n")[0]
    except (OSError, subprocess.SubprocessError):
        first = ""
    gpu, _, driver = first.partition(",")
    found = {"gpu": gpu.strip() or "-", "driver": driver.strip() or "-", "python": platform.python_version()}
    for name in VERSIONS:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "-"
    return found


def report(data: Path) -> list[str]:
    """Lines that say what is missing, and the commands that bring it."""
    lines = []
    absent = packages(KERNELS | TESTS | TOOLKIT)
    if absent:
        names = " ".join(absent)
        minor = ".".join(platform.python_version_tuple()[:2])
        tag = f"--python-version {minor} --platform manylinux_2_28_{platform.machine()} --only-binary :all:"
        lines += [
            f"missing packages: {', '.join(absent)}",
            f"  on a machine with a network: python -m pip download --dest wheels {tag} {names}",
            "  then here: --wheels wheels (or python -m pip install --no-index --find-links wheels " + names + ")",
        ]
    if not (os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")):
        lines.append("missing: a C compiler (gcc, clang or $CC), with which Triton builds its launchers")
    if not data.is_dir():
        lines.append(f"missing data: no folder {data} (BCCD); --data names another, and the last steps are left out")
    if not shutil.which("compute-sanitizer"):
        lines.append("missing: compute-sanitizer (of the CUDA toolkit); memcheck and racecheck are left out")
    return lines or ["nothing is missing"]
