"""`fcos weights show`."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcos_cli.report import console

if TYPE_CHECKING:
    from fcos_cli.weights.saved import Detector

SHOWN_CLASSES = 8
USUAL_WIDTH = 64


def show(
    file: Annotated[str, typer.Argument(metavar="WEIGHTS", help="A file, a run, a published name or an address.")],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="What another project's file does not tell. Repeatable."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """What a detector's file holds: project, network, classes, recipe, parameters, checksum, licence."""
    from fcos_cli.files import sha256_of
    from fcos_cli.recipe.keys import json_value
    from fcos_cli.recipe.load import to_toml
    from fcos_cli.weights.opening import find_file, imported_from, is_foreign
    from fcos_cli.weights.published import published
    from fcos_cli.weights.saved import load_detector

    path = find_file(file)
    entry = published().get(file) or next((e for e in published().values() if e.file_name == path.name), None)
    notes: tuple[str, ...] = ()
    if is_foreign(path):
        imported = imported_from(path, file, overrides=overrides or (), to_run=True)
        detector, project, notes = imported.detector, imported.peer.title, imported.notes
    else:
        detector = load_detector(path)
        project = detector.metadata.get("source_project", "this toolkit")
    licence = (entry.licence if entry else "") or detector.metadata.get("licence", "")
    about = {**_about(detector), "file": str(path), "project": project, "licence": licence or None}
    about["sha256"] = sha256_of(path)
    if as_json:
        recipe = json_value(detector.recipe.model_dump())
        names = list(detector.categories.names)
        console.print_json({**about, "classes": names, "notes": list(notes), "recipe": recipe})
        return
    names = list(detector.categories.names)
    shown = ", ".join(names[:SHOWN_CLASSES]) + (", ..." if len(names) > SHOWN_CLASSES else "")
    typer.echo(f"file        {path}")
    typer.echo(f"project     {project}")
    typer.echo(f"network     {about['architecture']}, {about['parameters']:,} parameters")
    typer.echo(f"pixels      {about['pixels']}")
    typer.echo(f"classes     {len(names)}: {shown}")
    typer.echo(f"SHA-256     {about['sha256']}")
    typer.echo(f"licence     {licence or 'not known'}")
    for note in notes:
        console.say(note)
    typer.echo(f"\n{to_toml(detector.recipe)}", nl=False)


def _about(detector: "Detector") -> dict[str, Any]:
    backbone, pixels = detector.recipe.model.backbone, detector.model.pixels
    width = "" if backbone.width == USUAL_WIDTH else f" of width {backbone.width}"
    mean, std = (", ".join(f"{value:g}" for value in values) for values in (pixels.mean, pixels.std))
    return {
        "architecture": f"{backbone.name}{width}",
        "parameters": sum(parameter.numel() for parameter in detector.model.parameters()),
        "pixels": f"{pixels.order.upper()}, less {mean}, divided by {std}",
    }
