"""What must not change while the code is moved about: recorded from one checkout, compared with another's.

    python tests/guard.py record OUT [--code CHECKOUT] [--only PART]... [--old-run OLD]
    python tests/guard.py compare OLD NEW

`record` runs the commands of a checkout on one thread, in float32, from fixed seeds, and writes what they say and leave
behind as text; what may differ between two runs of the same code (times, rates, paths) is taken out. Records of two
machines or two versions of PyTorch are not comparable. `compare` names every file that differs, with its first
differing lines: exit code 5 where there is one. The parts are in guard_parts.py.
"""

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from difflib import unified_diff
from itertools import zip_longest
from pathlib import Path
from typing import Any

from guard_parts import PARTS

TIMES = {"seconds", "images_per_second", "waiting", "seconds_per_iteration", "estimated_hours"}
RATE = re.compile(r"  [\d.]+ images/s  [\d:]+ left(  \(\d+% of it waiting for data\))?")
STAMP = re.compile(r"^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d ", re.MULTILINE)
PROGRESS = re.compile(r"^[\w ]+: \d+ of \d+\n", re.MULTILINE)
TOOK = re.compile(r"done in [\d:]+")
KEPT = "kept"
SHOWN_LINES, SHOWN_CHARACTERS = 6, 160
LONG_FILE = 5000


class Recorder:
    """Runs commands of a checkout in a work folder and writes what they gave.

    Attributes:
        work: an empty folder, the working directory of every command.
        kept: a folder beside the records for files that another record starts from; never compared.
        old_run: the `kept` folder that this record starts from.
        shared: the folder of real data, or None.
    """

    def __init__(self, code: Path, out: Path, work: Path, old_run: Path | None) -> None:
        self.code, self.out, self.work = code, out, work
        self.kept = out / KEPT
        self.old_run = old_run or self.kept
        shared = Path(os.environ.get("FCOS_SHARED_DATA", Path(__file__).resolve().parents[2] / "shared" / "data"))
        self.shared = shared if shared.is_dir() else None
        threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        self.environment = {k: v for k, v in os.environ.items() if not k.startswith(("FCOS_", "PYTHON"))} | {
            "PYTHONPATH": os.pathsep.join([str(code), str(code / "kernels")]),
            "PYTHONHASHSEED": "0",
            "FCOS_HOME": str(work / "home"),
            "MPLCONFIGDIR": str(work / "matplotlib"),
            "COLUMNS": "200",
            "NO_COLOR": "1",
            **threads,
        }

    def run(self, name: str, *arguments: object, keys_only: bool = False) -> Any:
        """Runs `fcos ARGUMENTS`; writes NAME (its stdout, JSON where it is) and NAME.log (exit code and stderr).

        Returns the JSON, or the text.
        """
        command = [sys.executable, "-m", "fcos_cli", *map(str, arguments)]
        done = subprocess.run(command, cwd=self.work, env=self.environment, capture_output=True, text=True, check=False)
        try:
            result = json.loads(done.stdout)
        except json.JSONDecodeError:
            result = done.stdout
        self.write(name, _keys(result) if keys_only else result)
        self.write(f"{name}.log", f"exit {done.returncode}\n" + ("" if keys_only else PROGRESS.sub("", done.stderr)))
        return result

    def python(self, name: str, program: str) -> None:
        """Writes what a Python program prints, with its stderr."""
        command = [sys.executable, "-c", program]
        done = subprocess.run(command, cwd=self.work, env=self.environment, capture_output=True, text=True, check=False)
        self.write(name, done.stdout + done.stderr)

    def write(self, name: str, value: Any) -> None:
        """A text as it is, anything else as JSON, without what may differ."""
        path = self.out / name
        path.parent.mkdir(parents=True, exist_ok=True)
        text = value if isinstance(value, str) else json.dumps(_timeless(value), indent=1) + "\n"
        for place, word in ((self.work, "WORK"), (self.code, "CODE"), (self.old_run, "KEPT"), (self.kept, "KEPT")):
            text = text.replace(str(place), word)
        path.write_text(STAMP.sub("", RATE.sub("", TOOK.sub("done", text))), encoding="utf-8")

    def write_run(self, name: str, folder: Path) -> dict[str, Any]:
        """All of a run folder: the tensors' hashes, the rows, the log, the figures. Returns the hashes by file."""
        files = sorted(path for path in folder.rglob("*") if path.is_file())
        self.write(f"{name}/files", "".join(f"{path.relative_to(folder)}\n" for path in files))
        hashes, metadata = {}, {}
        for path in sorted((folder / "checkpoints").glob("*.safetensors")):
            hashes[path.stem], metadata[path.stem] = read_safetensors(path)
        self.write(f"{name}/tensors", hashes)
        self.write(f"{name}/metadata", metadata)
        rows = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        self.write(f"{name}/metrics", [json.loads(row) for row in rows])
        for part in ("log.txt", "recipe.toml", "evaluation/best.json", "evaluation/best_predictions.json"):
            self.write(f"{name}/{Path(part).name}", (folder / part).read_text(encoding="utf-8"))
        self.write(f"{name}/pictures", {path.name: pixels(path) for path in sorted(folder.glob("pictures/*.png"))})
        return hashes


def read_safetensors(path: Path) -> tuple[dict[str, str], dict[str, Any]]:
    """SHA-256 of each tensor's bytes with its type and shape, and the metadata, whose values may be JSON."""
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    metadata = {key: _parsed(value) for key, value in sorted(header.pop("__metadata__", {}).items())}
    hashes = {}
    for name, about in sorted(header.items()):
        first, last = (start + offset for offset in about["data_offsets"])
        digest = hashlib.sha256(content[first:last]).hexdigest()[:16]
        hashes[name] = f"{about['dtype']} {about['shape']} {digest}"
    return hashes, metadata


def pixels(path: Path) -> str:
    """Size and hash of a picture's pixels."""
    from PIL import Image

    with Image.open(path) as image:
        return f"{image.size} {hashlib.sha256(image.convert('RGB').tobytes()).hexdigest()[:16]}"


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _timeless(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "time" if key in TIMES else _timeless(inner) for key, inner in value.items()}
    return [_timeless(inner) for inner in value] if isinstance(value, list) else value


def _keys(value: Any) -> Any:
    """The shape of a JSON value: keys, and the type of what they hold; of a list the first."""
    if isinstance(value, dict):
        return {key: _keys(inner) for key, inner in value.items()}
    return [_keys(inner) for inner in value[:1]] if isinstance(value, list) else type(value).__name__


def record(out: Path, code: Path, only: Sequence[str], old_run: Path | None) -> int:
    """Records the parts of a checkout, each in a folder of its own that it replaces."""
    out.mkdir(parents=True, exist_ok=True)
    for part in only or PARTS:
        shutil.rmtree(out / part, ignore_errors=True)
        with tempfile.TemporaryDirectory() as folder:
            recorder = Recorder(code, out, Path(folder).resolve(), old_run)
            recorder.python(
                f"{part}/code", "import fcos_cli, fcos_kernels; print(fcos_cli.__path__, fcos_kernels.__path__)"
            )
            found = (out / part / "code").read_text(encoding="utf-8")
            if found.count("CODE") != 2:
                print(f"the commands would not run from {code}: {found}", file=sys.stderr)
                return 4
            print(f"{part}: {PARTS[part](recorder) or 'recorded'}", flush=True)
    return 0


def compare(old: Path, new: Path) -> int:
    """Prints how two records differ: parts that both have. Returns 5 where they do."""
    old_parts, new_parts = ({path.name for path in side.iterdir() if path.is_dir()} - {KEPT} for side in (old, new))
    parts = sorted(old_parts & new_parts)
    if missing := sorted(old_parts ^ new_parts):
        print(f"not compared, only one has it: {', '.join(missing)}")
    different = 0
    for part in parts:
        names = {path.relative_to(side) for side in (old, new) for path in (side / part).rglob("*") if path.is_file()}
        for name in sorted(names):
            before, after = (_lines(side / name) for side in (old, new))
            if before == after:
                continue
            different += 1
            print(f"DIFFERS {name}")
            changed = _changes(before, after)
            for line in changed[:SHOWN_LINES]:
                print(f"  {line[:SHOWN_CHARACTERS]}")
            print(f"  {len(changed)} lines left out or put in")
        print(f"{part}: {len(names)} files compared")
    print(f"{different} differ" if different else f"equal: {', '.join(parts)}" if parts else "no part is in both")
    return 5 if different or not parts else 0


def _changes(before: list[str], after: list[str]) -> list[str]:
    """Lines left out (-) and put in (+); of long files line by line, as a search for insertions would take hours."""
    if max(len(before), len(after)) > LONG_FILE:
        pairs = [pair for pair in zip_longest(before, after, fillvalue="(absent)") if pair[0] != pair[1]]
        return [f"{sign} {line}" for pair in pairs for sign, line in zip("-+", pair, strict=True)]
    _, _, *difference = unified_diff(before, after, n=0, lineterm="")  # after the names of the files
    return [f"{line[0]} {line[1:]}" for line in difference if not line.startswith("@@")]


def _lines(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines() if path.is_file() else ["(absent)"]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    verbs = parser.add_subparsers(dest="verb", required=True)
    recording = verbs.add_parser("record", help="record what the commands of a checkout give")
    recording.add_argument("out", type=Path, metavar="OUT")
    recording.add_argument("--code", type=Path, default=Path(__file__).parents[1], help="checkout (default: this one)")
    recording.add_argument("--only", action="append", default=[], choices=tuple(PARTS), help="parts (default: all)")
    recording.add_argument("--old-run", type=Path, help="record of another checkout, whose run `old-run` goes on with")
    comparing = verbs.add_parser("compare", help="say what differs between two records")
    comparing.add_argument("old", type=Path)
    comparing.add_argument("new", type=Path)
    given = parser.parse_args()
    if given.verb == "compare":
        return compare(given.old, given.new)
    old_run = given.old_run.resolve() / KEPT if given.old_run else None
    return record(given.out.resolve(), given.code.resolve(), given.only, old_run)


if __name__ == "__main__":
    sys.exit(main())
