"""How many cores there are to work on. Imports nothing of the toolkit."""

import os


def available_cores() -> int:
    """Cores that this process may use: those it is bound to (taskset, a container's cpuset), else the machine's."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
