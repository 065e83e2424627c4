"""`fcos data split`."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated

import typer

from fcos_cli.commands.data.convert import show_written
from fcos_cli.commands.data.options import DataArgument, ImagesOption, OutOption, ToOption, own_format
from fcos_cli.commands.options import ImageDirOption
from fcos_cli.errors import UsageError
from fcos_cli.report import console

if TYPE_CHECKING:
    from fcos_cli.data.records import DetectionData


def split(
    data: DataArgument,
    out: OutOption,
    val: Annotated[float, typer.Option("--val", min=0, max=1, help="Share of the images for val.")] = 0.2,
    test: Annotated[float, typer.Option("--test", min=0, max=1, help="Share of the images for test.")] = 0.0,
    of: Annotated[
        str | None, typer.Option("--split", help="The split to divide, where there are several.", show_default=False)
    ] = None,
    seed: Annotated[int, typer.Option("--seed", min=0, help="Another number gives another division.")] = 0,
    to: ToOption = None,
    images: ImagesOption = "copy",
    image_dir: ImageDirOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")] = False,
) -> None:
    """Divide a data set into train, val and test: each class in the same shares, copies of an image on one side.

    Copies are found by content: the same bytes, or what looks the same. Other splits of the data set are written as
    they are, unless they share images with the one that is divided.
    """
    from fcos_cli.data.convert.converting import convert
    from fcos_cli.data.convert.dividing import divide
    from fcos_cli.data.datasets import find_splits, open_data
    from fcos_cli.data.doctor.copies import find_copies
    from fcos_cli.data.formats.splits import choose_split
    from fcos_cli.files import check_absent

    shares = {"train": 1 - val - test, "val": val, "test": test}
    shares = {name: share for name, share in shares.items() if share > 1e-9}
    if "train" not in shares or len(shares) < 2:
        raise UsageError(
            f"--val {val:g} and --test {test:g} divide nothing", "give shares such as --val 0.2 --test 0.1"
        )
    check_absent(out)
    layout, found = find_splits(data)
    chosen = choose_split(of, found, data)
    divided = open_data(data, chosen, image_dir=image_dir)
    with console.progress("comparing images", len(divided)) as advance:
        copies = find_copies({chosen: divided}, near=True, advance=advance)
    groups = [[index for _, index in group.members] for group in copies]
    parts = {name: divided.subset(rows) for name, rows in divide(divided, shares, groups, seed=seed).items()}
    others = {
        name: open_data(data, name, image_dir=image_dir) for name in found if name != chosen and not found[name].lost
    }
    parts |= _apart(others, divided, parts)
    with console.progress("images", sum(map(len, parts.values()))) as advance:
        written = convert(parts, out, to or own_format(layout), images=images, advance=advance)
    if groups:
        written.changed.append(f"{sum(map(len, groups)):,} images are copies of others: each stays with its copies")
    for name, part in list(parts.items())[1 : len(shares)]:
        lacking = sorted(
            {divided.categories.names[label] for label in divided.labels}
            - {part.categories.names[label] for label in part.labels}
        )
        if lacking:
            written.changed.append(f"{name} has no box of {', '.join(lacking[:5])}: there are too few images with one")
    show_written(written, out, as_json)


def _apart(
    others: Mapping[str, "DetectionData"], divided: "DetectionData", parts: Mapping[str, "DetectionData"]
) -> "dict[str, DetectionData]":
    """The other splits that are written as well."""
    own = {str(divided.path(index)) for index in range(len(divided))}
    kept = {}
    for name, other in others.items():
        if any(str(other.path(index)) in own for index in range(len(other))):
            console.warn(f"{name} is not written: it shares images with what is divided")
        elif name in parts:
            raise UsageError(f"there is a split {name} already", f"leave --{name} out, or divide a copy without it")
        else:
            kept[name] = other
    return kept
