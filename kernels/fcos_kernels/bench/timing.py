"""Timing: medians of interleaved runs, the bandwidth of a plain copy, CUDA graphs where launches would count."""

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

Work = Callable[[], object]

COPY_BYTES = {"cuda": 1 << 30, "cpu": 1 << 28}
FLUSH_BYTES = 1 << 28
"""Written between two runs on a GPU, so that no run finds its input in the L2 cache."""
WARM_UPS = 3


@dataclass(frozen=True)
class Timed:
    """Milliseconds of one implementation: median, fastest and slowest of the runs."""

    median: float
    fastest: float
    slowest: float
    runs: int


def time_all(works: Mapping[str, Work], device: torch.device, seconds: float) -> dict[str, Timed]:
    """Times several implementations in turn, A B C A B C ..., for about `seconds` each; at least three runs."""
    for work in works.values():
        for _ in range(WARM_UPS):
            work()
    once = {name: _run(work, device) for name, work in works.items()}
    runs = max(3, min(200, int(seconds * len(works) / max(sum(once.values()), 1e-6))))
    taken: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(runs):
        for name, work in works.items():
            taken[name].append(1e3 * _run(work, device))
    return {name: Timed(statistics.median(ms), min(ms), max(ms), runs) for name, ms in taken.items()}


def copy_bandwidth(device: torch.device) -> float:
    """Bytes a second of a copy of a large tensor, what is read and what is written both counted; the best of ten."""
    source = torch.zeros(COPY_BYTES[device.type] // 4, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    best = min(_run(lambda: target.copy_(source), device) for _ in range(10))
    return 2 * source.numel() * source.element_size() / best


def as_graph(work: Work, device: torch.device) -> Work:
    """The same work as one CUDA graph: no launches from Python are in the time. On a CPU the work itself.

    Work that waits for the device cannot be captured and raises RuntimeError.
    """
    if device.type != "cuda":
        return work
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UPS):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


_flush: dict[torch.device, torch.Tensor] = {}


def _run(work: Work, device: torch.device) -> float:
    """Seconds of one run."""
    if device.type != "cuda":
        started = time.perf_counter()
        work()
        return time.perf_counter() - started
    if device not in _flush:
        _flush[device] = torch.empty(FLUSH_BYTES // 4, device=device)
    _flush[device].zero_()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    work()
    end.record()
    torch.cuda.synchronize(device)
    return float(begin.elapsed_time(end)) / 1e3
