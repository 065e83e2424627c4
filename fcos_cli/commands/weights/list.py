"""`fcos weights list`."""

from typing import Annotated, Any

import typer

from fcos_cli.commands.columns import print_columns
from fcos_cli.report import console

KEY_OF_WEIGHTS = {"backbone": "model.backbone.weights", "detector": "model.weights"}


def list_weights(
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Published FCOS detectors and backbones: AP on COCO val2017, size, licence, whether they run here, address."""
    from fcos_cli.weights.published import published

    entries: list[dict[str, Any]] = [
        {
            "name": entry.name,
            "kind": entry.kind,
            "key": KEY_OF_WEIGHTS[entry.kind],
            "architecture": entry.architecture,
            "style": entry.style,
            "ap": entry.ap,
            "megabytes": entry.megabytes or None,
            "licence": entry.licence or None,
            "runs": not entry.lacks,
            "lacks": entry.lacks or None,
            "url": entry.urls[0],
        }
        for entry in published().values()
    ]
    if as_json:
        console.print_json({"weights": entries})
        return
    titles = ("name", "AP", "network", "MB", "licence", "runs here", "url")
    found = sorted(entries, key=lambda entry: entry["kind"] != "detector")
    print_columns(titles, [_row(entry) for entry in found])
    console.say(
        "without an AP: backbones, for model.backbone.weights. MB: of the tensors, where the file says no more."
    )
    console.say("next: fcos predict IMAGES --out preds.json --weights NAME, fcos weights import NAME --out FILE")


def _row(entry: dict[str, Any]) -> tuple[str, ...]:
    return (
        entry["name"],
        "" if entry["ap"] is None else f"{entry['ap']:.1f}",
        entry["architecture"],
        "" if entry["megabytes"] is None else str(entry["megabytes"]),
        entry["licence"] or "",
        "yes" if entry["runs"] else f"no: {entry['lacks']}",
        entry["url"],
    )
