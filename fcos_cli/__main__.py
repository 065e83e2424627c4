"""The command `fcos`; also `python -m fcos_cli`, for torchrun and where the command is not on the path."""

import sys

from fcos_cli.errors import INTERRUPTED


def main() -> None:
    """Starts the app. Imports take a moment, in which Ctrl-C already ends in one line."""
    try:
        from fcos_cli.app import main as run
    except KeyboardInterrupt:
        sys.stderr.write("error: interrupted\n")
        sys.exit(INTERRUPTED)
    run()


if __name__ == "__main__":
    main()
