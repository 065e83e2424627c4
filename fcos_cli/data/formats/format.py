"""The interface of annotation formats: how a folder or file is recognised, and what its splits are.

A new format is one file that ends in a `Format`, and its name in `known.py`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from fcos_cli.data.formats.splits import Split


@dataclass(frozen=True)
class Format:
    """An annotation format.

    Attributes:
        name: as users know it, such as "Pascal VOC".
        layout: the files by which a folder of this format is known, for the error where none is.
        folder_splits: the splits of a folder by their names, none where it is of another format. Reads as little as it
            can: annotations are read when a split is opened.
        suffixes: endings, in lower case, of single files that are data sets of this format.
        file: what such a file is called in errors, such as "a COCO annotation file (.json)".
        file_splits: the splits of such a file.
        recognises: tells such a file from other formats' files of the same ending.
    """

    name: str
    layout: str
    folder_splits: Callable[[Path], dict[str, Split]]
    suffixes: tuple[str, ...] = ()
    file: str = ""
    file_splits: Callable[[Path], dict[str, Split]] = lambda file: {}
    recognises: Callable[[Path], bool] = lambda file: True
