"""Work ahead of its user: in order, within its bound, and gone when the user goes."""

import threading
import time

import pytest

from fcos_cli.data.loading.ahead import drawn_ahead, groups_ahead


def ours() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith(("ahead", "drawn-ahead"))]


@pytest.mark.parametrize("threads", [0, 1, 3])
def test_results_come_in_order(threads):
    def slow_first(number):
        time.sleep(0.02 if number % 3 == 0 else 0)
        return number * number

    groups = [[0, 1, 2], [3], [], [4, 5]]
    assert list(groups_ahead(groups, slow_first, threads=threads, ahead=2)) == [[0, 1, 4], [9], [], [16, 25]]
    assert list(groups_ahead([], slow_first, threads=threads, ahead=2)) == []


def test_no_more_than_the_bound_is_under_way():
    drawn, used = [], 0

    def endless():
        for number in range(100):
            drawn.append(number)
            yield [number]

    for _ in groups_ahead(endless(), lambda n: n, threads=3, ahead=2):
        used += 1
        assert len(drawn) <= used + 2
    assert used == 100


def test_work_is_done_while_the_caller_is_busy():
    started = threading.Event()
    groups = groups_ahead([[1], [2]], lambda n: n == 2 and started.set(), threads=1, ahead=1)
    next(groups)
    assert started.wait(5)


@pytest.mark.parametrize("threads", [0, 2])
def test_an_error_comes_when_its_turn_comes(threads):
    def work(number):
        if number == 2:
            raise ZeroDivisionError
        return number

    results = groups_ahead([[1], [2], [3]], work, threads=threads, ahead=2)
    assert next(results) == [1]
    with pytest.raises(ZeroDivisionError):
        next(results)
    assert ours() == []


def test_threads_end_with_the_iterator():
    results = groups_ahead([[n] for n in range(50)], lambda n: n, threads=2, ahead=2)
    next(results)
    assert len(ours()) == 2
    results.close()
    drawn = drawn_ahead(iter(range(50)), limit=2)
    assert next(drawn) == 0
    drawn.close()
    assert ours() == []


def test_drawn_ahead_keeps_order_bound_and_errors():
    drawn = []

    def source():
        for number in range(20):
            drawn.append(number)
            yield number
        raise ZeroDivisionError

    used = []

    def use_all():
        for number in drawn_ahead(source(), limit=3):
            used.append(number)
            # The limit in the queue, and the one that waits for a place in it.
            assert len(drawn) <= len(used) + 4

    with pytest.raises(ZeroDivisionError):
        use_all()
    assert used == list(range(20))
