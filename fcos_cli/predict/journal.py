"""The file `OUT.partial`: what a prediction has done so far, image by image, so that --resume can go on from it.

A first line of JSON holds the settings that the detections depend on. Then, for every image, a line of JSON (its name,
id and size, counts, and `bytes`), that many bytes of output in the format asked for, and a line feed. Each image is
appended in one go, so that a process that is killed (kill -9, a preempted machine) loses at most the images on their
way; an image that is only half there is cut off when the file is read again. After a power failure the file system
decides how much of the end is left.
"""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self

from fcos_cli.errors import DataError, UsageError
from fcos_cli.files import check_writable
from fcos_cli.locks import HeldError, held

VERSION = 1


def partial_path(out: str | Path, *, folder: bool = False) -> Path:
    """Where the journal of a result file lies: `preds.json` -> `preds.json.partial`; in a result folder, inside it."""
    out = Path(out)
    return out / "predictions.partial" if folder else out.with_name(f"{out.name}.partial")


class Journal:
    """An open journal; made by `start` or `resume`, closed by `with`.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        with ExitStack() as stack:
            try:
                # Two predictions into one file would destroy each other.
                stack.enter_context(held(path.with_name(f"{path.name}.lock"), wait=False, remove=True))
            except HeldError:
                raise UsageError(
                    f"another prediction is writing {path}", "wait for it, or choose another --out"
                ) from None
            self._handle = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0), 0o666)
            stack.callback(os.close, self._handle)
            self._open = stack.pop_all()

    @classmethod
    def start(cls, path: Path, settings: Mapping[str, object]) -> Self:
        """A new one; an older one is overwritten.

        Raises:
            UsageError: another process is writing it.
            OSError: it cannot be written.
        """
        check_writable(path)
        journal = cls(path)
        os.ftruncate(journal._handle, 0)
        journal._append(json.dumps({"fcos_predict": VERSION, "settings": settings}).encode() + b"\n")
        return journal

    @classmethod
    def resume(cls, path: Path, settings: Mapping[str, object]) -> Self:
        """An existing one, to go on with.

        Raises:
            UsageError: it was made with other settings, or another process is writing it.
            DataError: it is not a journal of this version.
        """
        with open(path, "rb") as file:
            former = _settings(file.readline(), path)
        given = json.loads(json.dumps(dict(settings)))
        for key in dict.fromkeys([*former, *given]):
            if former.get(key) != given.get(key):
                raise UsageError(
                    f"--resume: {path.name} was made with {key} {_short(former.get(key))}, now it is "
                    f"{_short(given.get(key))}",
                    "give what it was made with, or leave --resume out to start again",
                )
        journal = cls(path)
        end = max((end for _, _, end in journal._scan()), default=None)
        if end is not None:
            os.ftruncate(journal._handle, end)
        else:
            with open(path, "rb") as file:
                os.ftruncate(journal._handle, len(file.readline()))
        return journal

    def add(self, image: Mapping[str, object], output: bytes) -> None:
        """Append an image and its output.

        Raises:
            OSError: it cannot be written; the journal ends with the image before.
        """
        line = json.dumps({**image, "bytes": len(output)}, ensure_ascii=False).encode(errors="surrogateescape")
        self._append(line + b"\n" + output + b"\n")

    def images(self) -> Iterator[dict[str, Any]]:
        """What is known of each image, without its output."""
        return (image for image, _, _ in self._scan())

    def outputs(self) -> Iterator[tuple[dict[str, Any], bytes]]:
        """Each image and its output, one at a time."""
        with open(self.path, "rb") as file:
            for image, start, _ in self._scan():
                file.seek(start)
                yield image, file.read(image["bytes"])

    def remove(self) -> None:
        """The results are in their place: the journal is not needed any more."""
        self._open.close()  # Windows removes no open file
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def _scan(self) -> Iterator[tuple[dict[str, Any], int, int]]:
        """(image, where its output starts, where its record ends) of every whole record."""
        with open(self.path, "rb") as file:
            size = os.fstat(file.fileno()).st_size
            file.readline()
            while line := file.readline():
                try:
                    image = json.loads(line.decode(errors="surrogateescape"))
                except ValueError:
                    return
                start = file.tell()
                end = start + image["bytes"] + 1
                if not line.endswith(b"\n") or end > size:
                    return
                yield image, start, end
                file.seek(end)

    def _append(self, record: bytes) -> None:
        end = os.lseek(self._handle, 0, os.SEEK_END)
        rest = memoryview(record)
        try:
            while rest:
                rest = rest[os.write(self._handle, rest) :]
        except BaseException:
            with suppress(OSError):
                os.ftruncate(self._handle, end)
            raise


def _settings(line: bytes, path: Path) -> dict[str, Any]:
    try:
        head = json.loads(line)
        if head["fcos_predict"] == VERSION:
            return dict(head["settings"])
    except (ValueError, KeyError, TypeError):
        pass
    raise DataError(
        f"{path}: not the journal of an unfinished prediction of this version", "leave --resume out to start again"
    )


def _short(value: object) -> str:
    text = "none" if value is None else str(value)
    return text if len(text) <= 40 else text[:37] + "..."
