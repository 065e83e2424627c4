import os
import signal

import pytest

from fcos_cli.interrupts import ignore_interrupts, interrupts_held

pytestmark = pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="signals cannot be held here")


def test_ctrl_c_waits_until_the_block_ends():
    done = []

    def interrupted():
        with interrupts_held():
            os.kill(os.getpid(), signal.SIGINT)
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
