"""`fcos weights import`."""

from pathlib import Path
from typing import Annotated

import typer

from fcos_cli.errors import SetupError, UsageError
from fcos_cli.report import console


def import_weights(
    file: Annotated[
        str, typer.Argument(metavar="WEIGHTS", help="Another project's file, a published name, or an address.")
    ],
    out: Annotated[Path, typer.Option(help="The .safetensors file to write.")],
    origin: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="PROJECT",
            help="torchvision, official, adelaidet, mmdetection, cvpods or detectron2 (default: by the names of its "
            "tensors).",
            show_default=False,
        ),
    ] = "",
    classes: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Names of the classes, one a line, in order.", show_default=False),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="A key of the recipe that is written: test.short_side=512. Repeatable."
        ),
    ] = None,
) -> None:
    """Make another project's detector one of this toolkit, with the recipe that computes the same function.

    Every tensor is placed, or the error lists those that are not. What a file
    does not tell (exp or relu, centre-ness or IoU) is given with --set; the
    error shows the choices.
    """
    from fcos_cli.files import check_writable
    from fcos_cli.weights.opening import find_file, imported_from
    from fcos_cli.weights.published import published
    from fcos_cli.weights.saved import save_detector

    if out.suffix != ".safetensors":
        raise UsageError(f"--out {out} must end in .safetensors", f"--out {out.with_suffix('.safetensors')}")
    check_writable(out)
    path = find_file(file)
    names = _names(classes) if classes else ()
    imported = imported_from(path, file, origin=origin, classes=names, overrides=overrides or ())
    detector = imported.detector
    extra = {key: value for key, value in detector.metadata.items() if value}
    if (entry := published().get(file)) is not None and entry.licence:
        extra["licence"] = entry.licence
    try:
        save_detector(out, detector.model, detector.recipe, detector.categories, extra)
    except OSError as error:
        raise SetupError(f"cannot write {out}: {error.strerror or error}", "choose another --out") from error
    for note in imported.notes:
        console.say(note)
    tensors = len(detector.model.state_dict())
    console.say(f"{imported.peer.title}: {tensors} tensors, {len(detector.categories)} classes")
    console.say(f"wrote {out}; next: fcos predict IMAGES --out preds.json --weights {out}")


def _names(path: Path) -> tuple[str, ...]:
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--classes {path} cannot be read: {error}", "give a text file of one name a line") from error
    while lines and not lines[-1].strip():
        lines.pop()
    return tuple(line.strip() for line in lines)
