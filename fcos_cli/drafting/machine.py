"""What this machine has to train with."""

import os
from contextlib import suppress
from dataclasses import dataclass

from fcos_cli.cores import available_cores

GIB = 1 << 30


@dataclass(frozen=True)
class Machine:
    """Cores and memory in GiB, of the machine and of its first GPU; `gpu` is "" where there is none."""

    cores: int
    memory: float
    gpu: str = ""
    gpu_memory: float = 0.0

    def __str__(self) -> str:
        own = f"{self.cores} CPU cores, {self.memory:.0f} GiB of memory"
        return f"{own}, {self.gpu} with {self.gpu_memory:.0f} GiB" if self.gpu else f"{own}, no GPU"


def this_machine() -> Machine:
    """Looks; imports torch."""
    import torch

    memory = 0.0
    # Windows has no sysconf.
    with suppress(AttributeError, ValueError, OSError):
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / GIB
    if not torch.cuda.is_available():
        return Machine(available_cores(), memory)
    properties = torch.cuda.get_device_properties(0)
    return Machine(available_cores(), memory, properties.name, properties.total_memory / GIB)
