"""The command line, run in this process."""

import sys
from typing import NamedTuple

import pytest


class Outcome(NamedTuple):
    """`out` is stdout (the result), `err` is stderr (the log)."""

    code: int
    out: str
    err: str


@pytest.fixture
def fcos(monkeypatch, capsys):
    """Function: arguments of `fcos` -> what came out, through the real entry point."""

    def run(*arguments):
        from fcos_cli.app import main

        monkeypatch.setattr(sys, "argv", ["fcos", *map(str, arguments)])
        capsys.readouterr()
        try:
            main()
            code = 0
        except SystemExit as exit:
            code = exit.code or 0
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run
