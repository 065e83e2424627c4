import os
import signal

import numpy as np
import pytest

from fcos_cli.errors import SetupError
from fcos_cli.stats import parallel
from fcos_cli.stats.boxes import NetworkBoxes, Setting, network_boxes
from fcos_cli.stats.parallel import map_parts, part_of, parts, worthwhile_processes


def first_rows(part, columns, setting):
    return part.rows.tolist(), columns[0].tolist(), part.offsets.tolist(), part.padded.tolist()


def die(part, columns, setting):
    os._exit(9)


def blocked_signals(part, columns, setting):
    return signal.pthread_sigmask(signal.SIG_BLOCK, [])


@pytest.fixture
def boxes(make_data):
    counts = [0, 3, 1, 0, 7, 2, 2, 0]
    data = make_data([(64, 64, [(0, i, i, i + 20, i + 20) for i in range(count)]) for count in counts])
    return network_boxes(data, Setting())


def test_parts_hold_whole_images_and_all_of_them(boxes, monkeypatch):
    monkeypatch.setattr(parallel, "BOXES_PER_PART", 4)
    monkeypatch.setattr(parallel, "IMAGES_PER_PART", 3)
    runs = list(parts(boxes, Setting()))
    # The image of seven boxes stands alone; no other part has more than four boxes or three images.
    assert runs == [(0, 3), (3, 4), (4, 5), (5, 8)]
    rows = np.concatenate([part_of(boxes, *run).rows for run in runs])
    np.testing.assert_array_equal(rows, boxes.rows)
    none = NetworkBoxes(boxes.boxes[:0], np.zeros(1, np.int64), boxes.rows[:0], boxes.padded[:0], {})
    assert list(parts(none, Setting())) == [(0, 0)]
    # 800 x 800 pixels are 13,294 locations.
    monkeypatch.setattr(parallel, "LOCATIONS_PER_PART", 30_000)
    assert {end - begin for begin, end in parts(boxes, Setting())} == {1, 2}


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_results_come_in_order(boxes, monkeypatch, workers):
    monkeypatch.setattr(parallel, "IMAGES_PER_PART", 1)
    column = np.arange(len(boxes.rows)) * 10
    found = list(map_parts(first_rows, boxes, [column], Setting(), workers=workers))
    assert len(found) == 8
    assert [row for rows, *_ in found for row in rows] == boxes.rows.tolist()
    assert [value for _, values, *_ in found for value in values] == column.tolist()
    assert found[4][2] == [0, 7]


def test_a_killed_process_is_told(boxes, monkeypatch):
    monkeypatch.setattr(parallel, "IMAGES_PER_PART", 1)
    with pytest.raises(SetupError, match="a worker process died"):
        list(map_parts(die, boxes, [], Setting(), workers=2))


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals cannot be blocked here")
def test_processes_never_see_an_interruption(boxes, monkeypatch):
    """Not even while they start: what they import then would print its traceback."""
    monkeypatch.setattr(parallel, "IMAGES_PER_PART", 1)
    found = list(map_parts(blocked_signals, boxes, [], Setting(), workers=2))
    assert all(signal.SIGINT in blocked for blocked in found)
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])


def test_workers_are_chosen_by_the_work():
    cores = len(os.sched_getaffinity(0))
    assert worthwhile_processes(0.1) == 1
    assert worthwhile_processes(1e6) == cores
    assert worthwhile_processes(0.1, asked=3) == 3
