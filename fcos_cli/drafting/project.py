"""`fcos new`: a folder with a recipe for a data set, and the commands that come next."""

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from fcos_cli.data.check import check_data
from fcos_cli.data.convert.converting import convert
from fcos_cli.data.convert.dividing import divide
from fcos_cli.data.datasets import find_splits, open_data
from fcos_cli.data.doctor.copies import find_copies
from fcos_cli.data.formats.splits import Split, choose_split, meaning
from fcos_cli.data.records import DetectionData
from fcos_cli.drafting.draft import draft_recipe
from fcos_cli.drafting.machine import Machine
from fcos_cli.errors import DataError, UsageError
from fcos_cli.files import atomic_folder, check_absent
from fcos_cli.progress import progress
from fcos_cli.recipe.load import load_recipe

VAL_SHARE = 0.2


@dataclass(frozen=True)
class Project:
    """What was made: the recipe's file, notes on how, and the commands that come next."""

    recipe: Path
    notes: tuple[str, ...]
    commands: tuple[str, ...]


def new_project(
    folder: Path,
    spec: str,
    machine: Machine,
    *,
    train_split: str | None = None,
    val_split: str | None = None,
    epochs: float | None = None,
) -> Project:
    """Look at a data set and write `folder/recipe.toml`; where it has no validation split, one below `folder/data`.

    Args:
        folder: to be made; nothing is there unless all of it is.
        spec: the data set, as `open_data` takes it.
        machine: what there is to train with.
        train_split, val_split: names of its splits; None: the ones called so.
        epochs: length of the training; None: by the number of images.

    Raises:
        UsageError: the folder exists, or it is not clear which split to train on.
        DataError: the data cannot be used as they are.
    """
    check_absent(folder)
    _, splits = find_splits(spec)
    train_name = choose_split(train_split, splits, spec) if train_split else _training_split(splits, spec)
    data = open_data(spec, train_name)
    _check(data, spec)
    val_name = choose_split(val_split, splits, spec) if val_split else _called("val", splits)
    dataset = spec if not Path(spec).expanduser().exists() else os.path.abspath(Path(spec).expanduser())
    notes: list[str] = []
    with atomic_folder(folder) as made:
        if val_name is None:
            parts = _divided(data)
            convert(parts, made / "data", "coco", images="reference" if data.source.on_disk else "copy")
            data = parts["train"]
            dataset, train_name, val_name = os.path.abspath(folder / "data"), "train", "val"
            notes.append(
                f"there is no validation split: a fifth of the {sum(map(len, parts.values())):,} images is kept for "
                f"it, by class and with copies on one side ({folder / 'data'} names the images where they are)"
            )
        elif open_data(spec, val_name).categories != data.categories:
            raise DataError(
                f"{train_name} and {val_name} of {spec} do not have the same classes",
                f"fcos data convert {spec} --to voc --out DIR writes one list of classes for both, joined by name",
            )
        draft = draft_recipe(data, machine, dataset=dataset, train_split=train_name, val_split=val_name, epochs=epochs)
        counts = f"{len(data):,} images, {int((~data.crowd).sum()):,} boxes, {len(data.categories)} classes"
        head = (
            f"fcos train {folder / 'recipe.toml'}\n\nWritten by fcos new for {spec} ({train_name}: {counts}) on a "
            f"machine with {machine}.\nEvery key can be changed; fcos recipe keys explains them all. Keys that are not "
            "here have the paper's value."
        )
        text = draft.text(head, f"{Path(spec).name}: a first recipe, by fcos new")
        (made / "recipe.toml").write_text(text, encoding="utf-8")
        load_recipe(str(made / "recipe.toml"))
    return Project(folder / "recipe.toml", tuple(notes), _commands(folder, spec, dataset, val_name, splits))


def _training_split(splits: Mapping[str, Split], spec: str) -> str:
    named = _called("train", splits)
    if named is None and len(splits) > 1:
        raise UsageError(
            f"{spec} has the splits {', '.join(splits)}: which one is trained on?", "name it: --train-split NAME"
        )
    return named or next(iter(splits))


def _called(word: str, splits: Mapping[str, Split]) -> str | None:
    """The split that is called train or val, in whatever spelling; None where none or several are."""
    fitting = [name for name, split in splits.items() if meaning(name) == word and not split.lost]
    return fitting[0] if len(fitting) == 1 else None


def _check(data: DetectionData, spec: str) -> None:
    if not data.annotated:
        raise DataError(f"{data.name} has images but no annotations", f"fcos data check {spec} says what was not read")
    errors = check_data(data).errors
    if errors:
        raise DataError(
            f"{data.name}: {errors[0]}", f"fcos data check {spec} shows all; its --fix OUT writes a sound copy"
        )


def _divided(data: DetectionData) -> dict[str, DetectionData]:
    with progress("comparing images", len(data)) as advance:
        found = find_copies({"all": data}, near=True, advance=advance)
    copies = [[index for _, index in group.members] for group in found]
    rows = divide(data, {"train": 1 - VAL_SHARE, "val": VAL_SHARE}, copies)
    return {name: data.subset(indices) for name, indices in rows.items()}


def _commands(folder: Path, spec: str, dataset: str, val_name: str, splits: Mapping[str, Split]) -> tuple[str, ...]:
    recipe, run = shlex.quote(str(folder / "recipe.toml")), shlex.quote(str(folder / "run"))
    test = _called("test", splits)
    last = f"fcos eval {run} --data {shlex.quote(spec)} --split {shlex.quote(str(test))}"
    if test is None:
        out, pictures = (shlex.quote(str(folder / name)) for name in ("predictions.json", "pictures"))
        data = f"{shlex.quote(dataset)} --split {shlex.quote(val_name)}"
        last = f"fcos predict {data} --weights {run} --out {out} --draw {pictures}"
    return (f"fcos train {recipe} --dry-run", f"fcos train {recipe} --run-dir {run}", last)
