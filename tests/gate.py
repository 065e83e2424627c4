"""Holds the figures of a `fcos train --json` or `fcos eval --json` to lower bounds: exit code 5 where one is missed."""

import argparse
import json
import sys
from pathlib import Path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("result", type=Path, help="file with the JSON object")
    parser.add_argument("--at-least", action="append", default=[], metavar="NAME=VALUE", help="a metric and its bound")
    arguments = parser.parse_args()
    metrics = json.loads(arguments.result.read_text(encoding="utf-8"))["metrics"]
    missed = False
    for bound in arguments.at_least:
        name, _, text = bound.partition("=")
        reached = metrics[name] >= float(text)
        missed |= not reached
        print(f"{name} {metrics[name]:.4f} {'reaches' if reached else 'MISSES'} {text}")
    return 5 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
