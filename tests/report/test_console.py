"""What a library logs and how far it is reach the screen word for word while a program listens, and never otherwise."""

import logging
import subprocess
import sys

import pytest

from fcos_cli.progress import progress
from fcos_cli.report import console

LIBRARY = logging.getLogger("fcos_cli.some.library")


def test_lines_are_as_they_were_said(capsys):
    long = "a [bold] line " + "x" * 200
    with console.listening():
        LIBRARY.info("%s", long)
        LIBRARY.warning("%d of %d", 3, 4)
        LIBRARY.error("nothing works")
        LIBRARY.debug("not for people")
    assert capsys.readouterr().err == f"{long}\nwarning: 3 of 4\nerror: nothing works\n"
    console.say(long)
    console.warn("3 of 4")
    assert capsys.readouterr().err == f"{long}\nwarning: 3 of 4\n"


def test_progress_is_shown_as_by_the_console(capsys):
    def work(shown):
        with shown("reading, MB", 20) as advance:
            for _ in range(20):
                advance()
        return capsys.readouterr().err

    assert work(progress) == ""
    with console.listening():
        told = work(progress)
    assert told == work(console.progress)
    assert told.splitlines()[0] == "reading, MB: 1 of 20"


def test_nothing_stays_behind(capsys):
    logger = logging.getLogger("fcos_cli")
    before = logger.level, list(logger.handlers)
    with pytest.raises(KeyboardInterrupt), console.listening():
        raise KeyboardInterrupt
    assert (logger.level, logger.handlers) == before
    LIBRARY.info("nobody listens")
    assert capsys.readouterr().err == ""


def test_users_silence_it_by_logging():
    code = (
        "import logging, fcos_cli\n"
        "library = logging.getLogger('fcos_cli.weights.download')\n"
        "library.warning('seen'); library.info('unseen')\n"
        "logging.getLogger('fcos_cli').setLevel(logging.ERROR)\n"
        "library.warning('silenced')\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr == "seen\n"
