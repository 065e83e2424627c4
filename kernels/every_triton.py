"""Compiles every kernel under every Triton that `pyproject.toml` allows, with no GPU: `python kernels/every_triton.py`.

The newest release of each minor version is installed by pip into a folder of its own (up to 1 GB each; `--folder`
keeps them for the next time), and `python -m fcos_kernels.aot` runs with that one, on the PyTorch that is installed.
Prints a line for each version: what was built, spilled bytes, most registers. About 90 s a version on one core. Exit
code 5 where something spills or does not compile, 4 where pip cannot install a version.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

KERNELS = Path(__file__).resolve().parent
VERSIONS = ("3.6.0", "3.7.1", "3.8.0", "3.9.0")
GATE_FAILED, NOT_INSTALLED = 5, 4


def main(arguments: Sequence[str] | None = None) -> int:
    """Entry point; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python kernels/every_triton.py", description=__doc__)
    parser.add_argument("--folder", type=Path, help="where the versions are installed, and found the next time")
    parser.add_argument("--only", action="append", choices=VERSIONS, help="only this version (may be repeated)")
    options = parser.parse_args(arguments)
    code = 0
    with tempfile.TemporaryDirectory() as passing:
        for version in options.only or VERSIONS:
            folder = (options.folder or Path(passing)) / version
            if not install(version, folder):
                return NOT_INSTALLED
            done = build(folder)
            sys.stderr.write(done.stderr)
            print(summary(version, json.loads(done.stdout)) if done.stdout else f"{version}: nothing built", flush=True)
            code = code or (GATE_FAILED if done.returncode else 0)
    return code


def install(version: str, folder: Path) -> bool:
    """Installs a version of triton, and nothing that it needs, unless the folder has one; whether it is there."""
    if (folder / "triton").is_dir():
        return True
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(folder)]
    return subprocess.run([*command, f"triton=={version}"], check=False).returncode == 0


def build(folder: Path) -> "subprocess.CompletedProcess[str]":
    """Runs `fcos_kernels.aot --json` with the triton of a folder, and a cache of its own."""
    with tempfile.TemporaryDirectory() as cache:
        path = os.pathsep.join([str(folder), str(KERNELS)])
        environment = {**os.environ, "PYTHONPATH": path, "TRITON_CACHE_DIR": cache}
        command = [sys.executable, "-m", "fcos_kernels.aot", "--json"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def summary(version: str, rows: Sequence[dict[str, Any]]) -> str:
    """One line about all that a version built; `rows` as `aot --json` prints them."""
    targets = list(dict.fromkeys(row["target"] for row in rows))
    most = {target: max(row["registers"] for row in rows if row["target"] == target) for target in targets}
    registers = ", ".join(f"{count} on {target}" for target, count in most.items())
    wrong = sum(bool(row["problems"]) for row in rows)
    return (
        f"triton {version}: {len(rows)} builds, {sum(row['spills'] for row in rows)} bytes spilled, "
        f"{wrong} with problems; most registers {registers}"
    )


if __name__ == "__main__":
    sys.exit(main())
