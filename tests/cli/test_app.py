"""The entry point: help that says everything, and how commands end."""

import errno
import os
import signal
import subprocess
import sys
import time

import pytest
from typer.main import get_command

from fcos_cli.app import app, with_optional_values
from fcos_cli.report import console


def commands():
    """(words, command) of every verb."""
    found = []

    def walk(words, command):
        inner = getattr(command, "commands", None)
        if inner is None:
            found.append((words, command))
        for name, below in (inner or {}).items():
            walk([*words, name], below)

    walk([], get_command(app))
    return found


def plain(text):
    """The words of a text, without what draws tables."""
    return " ".join("".join(" " if "─" <= c <= "╿" else c for c in text).split())


@pytest.mark.parametrize(("words", "command"), [pytest.param(*found, id="-".join(found[0])) for found in commands()])
def test_help_keeps_every_word(fcos, monkeypatch, words, command):
    """Rich markup takes [text in brackets] away: whatever is written must be read."""
    monkeypatch.setenv("COLUMNS", "400")
    result = fcos(*words, "--help")
    assert result.code == 0
    shown = plain(result.out)
    assert plain(command.help or "") in shown
    for parameter in command.params:
        assert plain(parameter.help or "") in shown
        assert parameter.help, f"{words}: {parameter.name} has no help"
        if parameter.metavar:
            assert parameter.metavar in shown
    assert "[[" not in shown
    assert "...}" not in shown


@pytest.mark.parametrize(
    ("typed", "understood"),
    [
        ("train --resume", "train --resume=newest"),
        ("train r.toml --resume", "train r.toml --resume=newest"),
        ("train --resume r.toml --json", "train --resume=newest r.toml --json"),
        ("train --resume --set a.b=1", "train --resume=newest --set a.b=1"),
        ("train --resume runs/one r.toml", "train --resume runs/one r.toml"),
        ("train --resume=runs/one", "train --resume=runs/one"),
    ],
)
def test_resume_with_and_without_a_value(typed, understood):
    assert with_optional_values(typed.split()) == understood.split()


def interrupt(*_):
    raise KeyboardInterrupt


def test_an_interruption_is_said(fcos, monkeypatch):
    monkeypatch.setattr(console, "print_json", interrupt)
    result = fcos("data", "list", "--json")
    assert result.code == 130
    assert "interrupted" in result.err


def test_sigterm_is_an_interruption(tmp_path):
    """A predict that is terminated keeps what is done and leaves no temporary file; here: a command that waits."""
    code = (
        "import sys, time; from fcos_cli.report import console\n"
        "def wait(*_):\n    print('waiting', flush=True)\n    time.sleep(60)\n"
        "console.print_json = wait\n"
        "from fcos_cli.app import main\n"
        "sys.argv = ['fcos', 'data', 'list', '--json']; main()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        _, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert b"interrupted" in err
    assert time.monotonic() - started < 30


def test_a_reader_that_has_gone_is_no_failure():
    """`fcos recipe keys | head -1`"""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run([sys.executable, "-m", "fcos_cli", "data", "list"], stdout=writer, stderr=subprocess.PIPE)
    finally:
        os.close(writer)
    assert done.returncode == 0
    assert b"Traceback" not in done.stderr
    assert b"BrokenPipe" not in done.stderr


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "the disk is full"),
        (errno.EACCES, "no permission"),
        (errno.EROFS, "the file system is read-only"),
    ],
)
def test_what_the_machine_refuses_is_no_traceback(fcos, monkeypatch, number, said):
    def refuse(*_):
        raise OSError(number, os.strerror(number), "somewhere/file.json")

    monkeypatch.setattr(console, "print_json", refuse)
    result = fcos("data", "list", "--json")
    assert result.code == 4
    assert f"{said}: somewhere/file.json" in result.err
    assert "hint: " in result.err


def test_other_errors_keep_their_traceback(fcos, monkeypatch):
    def fail(*_):
        raise OSError(errno.EBADF, "a mistake of ours")

    monkeypatch.setattr(console, "print_json", fail)
    with pytest.raises(OSError, match="a mistake of ours"):
        fcos("data", "list", "--json")
