"""`fcos data show`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcos_cli.commands.data.options import DataArgument
from fcos_cli.commands.options import ImageDirOption
from fcos_cli.errors import UsageError
from fcos_cli.report import console

if TYPE_CHECKING:
    import numpy as np

    from fcos_cli.data.records import DetectionData


def show(
    data: DataArgument,
    out: Annotated[Path, typer.Option("--out", metavar="FILE", help="The picture to write, .png or .jpg.")],
    split: Annotated[str | None, typer.Option("--split", help="train, val, test, ...", show_default=False)] = None,
    count: Annotated[int, typer.Option("--count", min=1, max=400, help="Images in the grid.")] = 12,
    of_class: Annotated[
        str | None, typer.Option("--class", metavar="NAME", help="Only boxes of this class.", show_default=False)
    ] = None,
    smallest: Annotated[bool, typer.Option("--smallest", help="The smallest boxes, from near by.")] = False,
    ambiguous: Annotated[
        bool,
        typer.Option("--ambiguous", help="The images whose boxes take most locations from one another."),
    ] = False,
    recipe: Annotated[
        str | None,
        typer.Option("--recipe", help="For --ambiguous: its sizes and levels (default: r50's).", show_default=False),
    ] = None,
    image_dir: ImageDirOption = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another number shows other images.")] = 0,
) -> None:
    """A picture of images with their boxes: do the boxes lie where the objects are?"""
    from fcos_cli.commands.data.tiles import (
        box_tile,
        class_label,
        image_tile,
        names_shown,
        random_images,
        shown_rows,
        smallest_boxes,
    )
    from fcos_cli.data.datasets import open_data
    from fcos_cli.report.draw import contact_sheet, save_picture

    if smallest and ambiguous:
        raise UsageError("--smallest and --ambiguous are two pictures", "leave one of them out")
    if out.suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise UsageError(f"{out}: a picture is a .png or .jpg file", f"--out {out.with_suffix('.png')}")
    if out.exists():
        raise UsageError(f"{out} exists, and nothing is written over", "name another file")
    opened = open_data(data, split, image_dir=image_dir)
    label = None if of_class is None else class_label(opened, of_class)
    rows = shown_rows(opened, label)
    if smallest:
        tiles = [box_tile(opened, row, rows) for row in smallest_boxes(opened, rows, count)]
    elif ambiguous:
        found = _most_ambiguous(opened, rows, count, recipe)
        tiles = [
            image_tile(opened, index, rows, f"{lost:,} locations taken, {opened.file_names[index]}")
            for index, lost in found
        ]
    else:
        tiles = [image_tile(opened, index, rows) for index in random_images(opened, rows, count, seed)]
    if not tiles:
        raise UsageError("there is nothing to show", "choose another --split or --class")
    what = "the smallest boxes" if smallest else "boxes that take locations from one another" if ambiguous else "boxes"
    title = f"{opened.name}: {what}" + (f" of {of_class}" if of_class else "")
    save_picture(contact_sheet(tiles, names_shown(opened), title=title), out)
    console.say(f"{title}: {out}")


def _most_ambiguous(data: "DetectionData", rows: "np.ndarray", count: int, recipe: str | None) -> list[tuple[int, int]]:
    """Images, and how many locations boxes of `rows` may have there and other boxes get, most first; none without."""
    import numpy as np

    from fcos_cli.commands.data.tiles import image_of_rows
    from fcos_cli.recipe.load import load_recipe
    from fcos_cli.stats.boxes import Setting
    from fcos_cli.stats.coverage import cover

    setting = Setting() if recipe is None else Setting.of_recipe(load_recipe(recipe).recipe)
    coverage = cover(data, setting)
    own = np.isin(coverage.boxes.rows, rows)
    lost = (coverage.painting.claimed - coverage.painting.won).sum(axis=1)[own]
    images = image_of_rows(data)[coverage.boxes.rows[own]]
    taken = np.bincount(images, weights=lost, minlength=len(data)).astype(np.int64)
    order = np.argsort(-taken, kind="stable")[:count]
    return [(int(index), int(taken[index])) for index in order if taken[index]]
