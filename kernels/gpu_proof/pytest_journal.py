"""A pytest plugin: tests whose outcome is in a journal are left out, the others share out over processes.

    FCOS_JOURNAL  file of JSON lines {"case": test, "outcome": "passed", "failed" or "skipped", "seconds": ...}
    FCOS_SHARE    "2/12": this process takes the third of every twelve tests

A test that was begun MOST_TRIES times and has no outcome takes its process down: it is left out and counts as failed.
What Triton compiled in this process, and what it found in its cache, is written at the end.
"""

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from fcos_kernels.bench import journal

MOST_TRIES = 4
ENDS_ITS_PROCESS = "ends its process"
MOST_WORDS = 2000
"""Characters kept of why a test failed."""


class Journal:
    """Hooks of one process."""

    def __init__(self, path: Path, share: int, shares: int) -> None:
        self.path, self.share, self.shares = path, share, shares
        self.running: dict[str, str] = {}
        self.began = 0.0
        self.kernels: Counter[str] = Counter()

    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        records = journal.read(self.path)
        known = {record["case"] for record in records if "outcome" in record}
        tries = Counter(record["case"] for record in records if "begun" in record)
        for place, item in enumerate(list(items)):
            case, mine = item.nodeid, place % self.shares == self.share
            if mine and case not in known and tries[case] >= MOST_TRIES:
                journal.append(self.path, {"case": case, "outcome": "failed", "seconds": 0, "why": ENDS_ITS_PROCESS})
            if not mine or case in known or tries[case] >= MOST_TRIES:
                items.remove(item)

    def pytest_sessionstart(self) -> None:
        try:
            from triton import knobs
        except ImportError:
            return
        knobs.compilation.listener = self.compiled

    def compiled(self, *_: Any, cache_hit: bool, **others: Any) -> None:
        self.kernels["found in the cache" if cache_hit else "compiled"] += 1

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        self.running = {"case": nodeid, "outcome": "passed"}
        self.began = time.perf_counter()
        journal.append(self.path, {"case": nodeid, "begun": os.getpid()})

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome != "passed":
            self.running |= {"outcome": report.outcome, "why": str(report.longrepr)[-MOST_WORDS:]}
        if report.when == "teardown":
            seconds = round(time.perf_counter() - self.began, 3)
            journal.append(self.path, self.running | {"seconds": seconds})

    def pytest_sessionfinish(self) -> None:
        journal.append(self.path, {"kernels": dict(self.kernels), "process": os.getpid()})


def pytest_configure(config: pytest.Config) -> None:
    path = os.environ.get("FCOS_JOURNAL")
    if path:
        share, _, shares = os.environ.get("FCOS_SHARE", "0/1").partition("/")
        config.pluginmanager.register(Journal(Path(path), int(share), int(shares)))
