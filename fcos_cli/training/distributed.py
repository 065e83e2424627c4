"""Several devices: one process each, started by torchrun. Alone, every function here is a no-op."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from fcos_cli.errors import FcosError, SetupError

T = TypeVar("T")

# The others wait while the main process evaluates and writes; NCCL alone would give up after 10 minutes.
PATIENCE = timedelta(minutes=30)


@dataclass(frozen=True)
class World:
    """This process among all: `rank` of `size`, computing on `device`."""

    rank: int
    size: int
    device: torch.device

    @property
    def main(self) -> bool:
        """Whether this process writes files and talks to the user."""
        return self.rank == 0

    def mean(self, value: Tensor) -> Tensor:
        """Average of a float tensor over the processes (in place where there are several)."""
        if self.size > 1:
            dist.all_reduce(value, op=dist.ReduceOp.SUM)
            value /= self.size
        return value

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any process: so that all stop at the same iteration."""
        if self.size == 1:
            return flag
        value = torch.tensor(float(flag), device=self.device)
        dist.all_reduce(value, op=dist.ReduceOp.MAX)
        return bool(value.item())

    def barrier(self) -> None:
        """Waits for all processes."""
        if self.size > 1:
            dist.barrier()

    def share(self, value: T) -> T:
        """The main process's value on every process."""
        if self.size == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, src=0, device=self.device)
        return box[0]

    def gather(self, value: T) -> list[T]:
        """The value of every process, by rank, on every process."""
        if self.size == 1:
            return [value]
        values: list[T] = [value] * self.size
        dist.all_gather_object(values, value)
        return values

    def on_main(self, work: Callable[[], T]) -> T:
        """What `work` returns on the main process, on every process.

        Raises:
            FcosError: that of `work`, on the main process, which tells the user; the others exit with its code.
        """
        box: tuple[T | None, FcosError | None] = (None, None)
        if self.main:
            try:
                box = (work(), None)
            except FcosError as error:
                box = (None, error)
        value, mistake = self.share(box)
        if mistake is not None:
            raise mistake if self.main else SystemExit(mistake.exit_code)
        return value  # type: ignore[return-value]

    @torch.no_grad()
    def same_buffers(self, module: nn.Module) -> None:
        """Gives every process the main one's buffers: BatchNorm's statistics differ by the images each has seen."""
        if self.size > 1:
            for buffer in module.buffers():
                dist.broadcast(buffer, src=0)


@contextmanager
def world(device: torch.device) -> Iterator[World]:
    """The processes that torchrun started (RANK, WORLD_SIZE, LOCAL_RANK), or this one alone.

    Raises:
        SetupError: more processes than CUDA devices on this machine.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        yield World(0, 1, device)
        return
    rank, local = int(os.environ["RANK"]), int(os.environ.get("LOCAL_RANK", "0"))
    if device.type == "cuda":
        if local >= torch.cuda.device_count():
            raise SetupError(
                f"process {local} has no device: this machine has {torch.cuda.device_count()} CUDA devices",
                "start at most that many: torchrun --nproc-per-node N -m fcos_cli train ...",
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=PATIENCE)
    try:
        yield World(rank, size, device)
    finally:
        dist.destroy_process_group()
