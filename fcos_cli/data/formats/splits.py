"""The splits of a data set: their names as people write them, and how each is opened."""

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from fcos_cli.data.findings import Finding
from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError

ALL = "all"
"""Name of the one split of a data set that is not divided."""

_MEANINGS = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
CLASS_FILES = (
    *("classes.txt", "labels.txt", "obj.names", "class_names.txt"),
    # Of Roboflow's export for Darknet, and of labelImg's own folder.
    *("_darknet.labels", "predefined_classes.txt"),
)


class ClassNamesMissingError(DataError):
    """Annotations whose classes have numbers and no names; the images can be used without."""


@dataclass(frozen=True)
class Split:
    """One split of a data set, not yet read.

    Attributes:
        open: reads its annotations.
        count: counts its images; None where that would take long.
        any_name: whether it is the whole of a data set that is opened under whatever name is asked for.
        files: the annotation files and lists that it takes, and files of classes; None where nobody knows them: then
            nothing is said of files that no split takes.
        shared: what was found out about the data set as a whole; the same for each of its splits.
        lost: why it cannot be opened, where the data set names it but it is not there.
    """

    open: Callable[[], DetectionData]
    count: Callable[[], int | None]
    any_name: bool = False
    files: Callable[[], Iterable[Path]] | None = None
    shared: tuple[Finding, ...] = ()
    lost: str = ""


def meaning(name: str) -> str | None:
    """train, val or test where a name such as `instances_valid2017` says so, else None."""
    meanings = {_MEANINGS[token] for token in re.split(r"[^a-z]+", name.lower()) if token in _MEANINGS}
    return meanings.pop() if len(meanings) == 1 else None


def choose_split(wanted: str | None, splits: Mapping[str, Split], data: str) -> str:
    """The split that `wanted` names: itself, in another case, or another name for the same (val: valid, val2017).

    Raises:
        DataError: there is no such split, several fit, or none was named and there are several.
    """
    names = list(splits)
    if len(names) == 1 and (wanted is None or splits[names[0]].any_name):
        return names[0]
    if wanted is None:
        raise DataError(f"{data} has several splits: {', '.join(names)}", "choose one with --split")
    exact = [name for name in names if name == wanted] or [name for name in names if name.lower() == wanted.lower()]
    if exact:
        return exact[0]
    if names == [ALL]:
        raise DataError(
            f"{data} is not divided into splits, so it has no split {wanted}",
            f"leave --split out; to train on all of it: --set data.train_split={ALL}, with a data.val_dataset",
        )
    alike = [name for name in names if meaning(wanted) is not None and meaning(name) == meaning(wanted)]
    plain = [name for name in alike if len(re.findall(r"[a-z]+", name.lower())) == 1]
    if len(plain or alike) == 1:
        return (plain or alike)[0]
    if alike:
        raise DataError(
            f"{data} has several splits that {wanted} may mean: {', '.join(alike)}", "give one of these names"
        )
    near = difflib.get_close_matches(wanted, names, n=1)
    choice = f"choose one of these: --split {names[0]}, or a recipe's data.train_split and data.val_split"
    hint = f"did you mean {near[0]}?" if near else choice
    raise DataError(f"{data} has no split {wanted}; it has {', '.join(names)}", hint)


def class_names_beside(*folders: Path) -> list[str] | None:
    """The class names of the first of these folders that has a file of them, one a line; None where none has."""
    file = class_file_beside(*folders)
    if file is None:
        return None
    lines = read_lines(file)
    repeated = sorted({line for line in lines if lines.count(line) > 1})
    if repeated:
        raise DataError(f"{file}: class {repeated[0]} stands there more than once")
    return lines


def class_file_beside(*folders: Path) -> Path | None:
    """The file of class names in the first of these folders that has one."""
    return next((folder / name for folder in folders for name in CLASS_FILES if (folder / name).is_file()), None)


def read_lines(path: Path) -> list[str]:
    """The lines of a text file without surrounding blanks; empty lines are left out."""
    return [line.strip() for line in read_text(path).splitlines() if line.strip()]


def read_text(path: Path) -> str:
    """A text file in UTF-8, or in UTF-16 with its mark, as Windows writes it.

    Raises:
        DataError: it cannot be read, or is in another encoding.
    """
    try:
        raw = path.read_bytes()
        utf16 = raw.startswith((b"\xff\xfe", b"\xfe\xff"))
        return raw.decode("utf-16" if utf16 else "utf-8-sig").replace("\r\n", "\n").replace("\r", "\n")
    except UnicodeDecodeError:
        raise DataError(f"{path}: not UTF-8 text", "save it as UTF-8") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror}") from None
