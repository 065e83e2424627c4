"""`fcos data list`."""

from typing import Annotated, Any

import typer

from fcos_cli.errors import DataError
from fcos_cli.report import console


def list_data(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Data sets that can be opened by name: under $FCOS_DATA, ./data and ./datasets, and the built-in ones."""
    from fcos_cli.data.datasets import BUILT_IN, data_roots, find_splits, known_names

    entries: list[dict[str, Any]] = []
    for name, place in {BUILT_IN: None, **known_names()}.items():
        try:
            layout, splits = find_splits(name if place is None else str(place))
            counts = {split: opener.count() for split, opener in splits.items()}
            problem = None
        except DataError as error:
            layout, counts, problem = "", {}, error.message
        where = None if place is None else str(place)
        entries.append({"name": name, "layout": layout, "splits": counts, "path": where, "problem": problem})
    looked = [{"path": str(root), "exists": root.is_dir()} for root in data_roots()]
    if as_json:
        console.print_json({"data": entries, "looked_in": looked})
        return
    console.print_table(
        "Data sets",
        ["name", "layout", "splits (images)", "where"],
        [
            [entry["name"], entry["layout"] or "not understood", _splits_text(entry["splits"]), entry["path"] or "-"]
            for entry in entries
        ],
        text_columns=4,
    )
    for entry in entries:
        if entry["problem"]:
            console.warn(entry["problem"])
    for root in looked:
        console.say(f"looked in {root['path']}" + ("" if root["exists"] else " (no such folder)"))
    console.say("set FCOS_DATA to a folder of data sets to find them by name; --data takes any path too")


def _splits_text(counts: dict[str, int | None]) -> str:
    return ", ".join(name if count is None else f"{name} {count:,}" for name, count in counts.items()) or "-"
