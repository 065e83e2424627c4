import os
import signal
import threading

import pytest

from fcos_cli.interrupts import ignore_interrupts, interrupts_held

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals cannot be held here")


@pytest.fixture
def heard():
    """Ctrl-C raises KeyboardInterrupt. (A shell starts background jobs, and so these tests, with it ignored.)"""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def test_ctrl_c_waits_until_the_block_ends(heard):
    done = []

    def interrupted():
        with interrupts_held():
            # To this thread: one of the test runner's would take what is sent to the process.
            signal.pthread_kill(threading.get_ident(), signal.SIGINT)
            done.append("went on")

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert done == ["went on"]
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, ())


def test_a_process_that_ignores_ctrl_c_goes_on():
    before = signal.getsignal(signal.SIGINT)
    try:
        ignore_interrupts()
        os.kill(os.getpid(), signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
