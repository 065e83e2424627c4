"""The machine that a benchmark ran on. Imports nothing but the standard library."""

import platform
from pathlib import Path


def processor() -> str:
    """The processor's name, in the system's words; its architecture where there is none."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
