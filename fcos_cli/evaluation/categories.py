"""Whose class is whose: a model's labels and a data set's category ids, matched by name. Imports no torch."""

import numpy as np

from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.errors import DataError

UNKNOWN_CATEGORY = -1
"""The category id of a class that the data set lacks."""


def match_categories(model: Categories, data: DetectionData) -> tuple[np.ndarray, tuple[str, ...]]:
    """The data set's category id of each of the model's labels: classes are matched by name, ids and order may differ.

    Returns:
        int64 [C], -1 where the data set lacks the class; and the names of those classes.

    Raises:
        DataError: the data set has classes that the model does not know, or names that are not unique.
    """
    if not len(data.categories) or model == data.categories:
        return np.asarray(model.ids, dtype=np.int64), ()
    ours, theirs = _by_name(model, "the model"), _by_name(data.categories, data.name)
    unknown = [name for key, (_, name) in theirs.items() if key not in ours]
    missing = tuple(name for key, (_, name) in ours.items() if key not in theirs)
    if unknown:
        raise DataError(
            f"the model does not know these classes of {data.name}: {_some(unknown)}; "
            f"what it knows besides: {_some(missing) if missing else 'nothing'}",
            "use a model trained on these classes, or rename the data set's categories; "
            "to predict all the same, give `fcos predict` the folder of the images",
        )
    ids = [theirs[_key(name)][0] if _key(name) in theirs else UNKNOWN_CATEGORY for name in model.names]
    return np.asarray(ids, dtype=np.int64), missing


def _key(name: str) -> str:
    return " ".join(name.casefold().replace("_", " ").split())


def _by_name(categories: Categories, owner: str) -> dict[str, tuple[int, str]]:
    table: dict[str, tuple[int, str]] = {}
    for category, name in zip(categories.ids, categories.names, strict=True):
        if _key(name) in table:
            raise DataError(
                f"{owner} has two classes called {name!r} (ids {table[_key(name)][0]} and {category})",
                "classes are matched by name: give each its own",
            )
        table[_key(name)] = (category, name)
    return table


def _some(names: tuple[str, ...] | list[str], limit: int = 8) -> str:
    shown = ", ".join(names[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")
