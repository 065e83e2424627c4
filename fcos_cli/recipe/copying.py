"""A copy of a recipe for its reader to edit: comments kept, `extends` still right, the command in its head its own."""

import os
import re
from pathlib import Path

from fcos_cli.errors import RecipeError, SetupError, UsageError
from fcos_cli.files import atomic_file
from fcos_cli.recipe.files import SUFFIX, bundled_name, find_recipe, read_text, shown
from fcos_cli.recipe.load import load_recipe

_EXTENDS = re.compile(r"^([ \t]*extends[ \t]*=[ \t]*)(\"[^\"\n]*\"|'[^'\n]*')", re.MULTILINE)
_COMMAND = re.compile(r"\A# fcos train \S+")


def copy_recipe(spec: str, destination: str | Path | None = None, *, force: bool = False) -> Path:
    """Writes a copy of a recipe and returns its path. What it loads to is what the original loads to.

    Args:
        spec: a recipe file or a bundled name.
        destination: a file (".toml" is added where it is missing) or a folder, which may be new if the text ends in a
            slash; None is the current folder.
        force: overwrite a file that is there.

    Raises:
        RecipeError: the recipe does not hold.
        UsageError: the file is there already, or is the recipe itself.
        SetupError: it cannot be written.
    """
    source = find_recipe(spec)
    loaded = load_recipe(spec)
    target = _target(source, destination)
    if target.exists() and target.resolve() == source.resolve():
        raise UsageError(f"{shown(target)} is the recipe itself", "name another file: fcos recipe copy RECIPE DEST")
    if target.exists() and not force:
        raise UsageError(f"{shown(target)} is there already", "name another file, or overwrite it with --force")
    text = _COMMAND.sub(lambda _: f"# fcos train {shown(target)}", read_text(source), count=1)
    if loaded.base is not None:
        base = bundled_name(loaded.base) or Path(os.path.relpath(loaded.base, target.parent)).as_posix()
        text = _EXTENDS.sub(lambda match: f'{match[1]}"{base}"', text, count=1)
    try:
        with atomic_file(target, "w") as file:
            file.write(text)
    except OSError as error:
        raise SetupError(f"cannot write {shown(target)}: {error.strerror or error}", "choose another DEST") from error
    if load_recipe(str(target)).recipe != loaded.recipe:
        raise RecipeError(
            f"the copy {shown(target)} does not load to what {spec} loads to",
            f"write it with every key instead: fcos recipe show {spec} --resolved > {shown(target)}",
        )
    return target


def _target(source: Path, destination: str | Path | None) -> Path:
    if destination is None:
        return Path(source.name)
    path = Path(destination).expanduser()
    if path.is_dir() or str(destination).endswith(("/", os.sep)):
        return path / source.name
    return path if path.suffix == SUFFIX else path.with_name(path.name + SUFFIX)
