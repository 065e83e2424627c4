"""Where recipes lie and how their TOML is read: bundled names, paths, `extends`, and errors that name the line."""

import difflib
import os
import re
import tomllib
from pathlib import Path
from typing import Any

from fcos_cli.errors import RecipeError, SetupError

SUFFIX = ".toml"
LIKE, TIE = 0.6, 0.05
"""How alike (0..1) a name must be to be suggested, and how far it may stand behind the likeliest."""
_POSITION = re.compile(r"\s*\(at (?:line (\d+), column (\d+)|end of document)\)$")


def bundled_folder() -> Path:
    """The folder of the recipes that come with the toolkit: package data of a wheel, `recipes/` of a checkout.

    Raises:
        SetupError: neither is there.
    """
    package = Path(__file__).parents[1]
    if (package / "recipes").is_dir():
        return package / "recipes"
    checkout = package.parent
    if (checkout / "pyproject.toml").is_file() and (checkout / "recipes").is_dir():
        return checkout / "recipes"
    raise SetupError(f"the bundled recipes are missing from {package}", "install the toolkit again")


def bundled() -> dict[str, Path]:
    """The bundled recipes by name ("r50", "ablations/p4_only"), main recipes first, each group in name order."""
    folder = bundled_folder()
    names = {path.relative_to(folder).with_suffix("").as_posix(): path for path in folder.rglob(f"*{SUFFIX}")}
    return dict(sorted(names.items(), key=lambda item: (item[0].count("/"), item[0])))


def bundled_name(path: Path) -> str | None:
    """The bundled name of a file, None where it is not bundled."""
    resolved = path.resolve()
    return next((name for name, other in bundled().items() if other.resolve() == resolved), None)


def shown(path: Path) -> str:
    """The path as a person would type it: relative where it lies below the current folder."""
    try:
        return path.relative_to(Path.cwd()).as_posix()
    except ValueError:
        return str(path)


def find_recipe(spec: str) -> Path:
    """The file a person means: a path, or a bundled name ("r50", "ablations/p4_only", also "recipes/r50.toml").

    A text that ends in .toml is a path; `recipes/NAME.toml` falls back to the bundled recipe of that name, so that one
    command line works in a checkout and with an installed wheel. Other texts are a bundled name before they are a path.

    Raises:
        RecipeError: there is no such recipe; names the nearest bundled ones.
    """
    names = bundled()
    path = Path(spec).expanduser()
    if not spec.endswith(SUFFIX) and spec in names:
        return names[spec]
    if path.is_file():
        return path
    if not spec.strip():
        raise RecipeError("the recipe has no name", _suggestion(spec, names))
    if path.is_dir():
        raise RecipeError(f"{spec} is a folder, not a recipe", _suggestion(spec, names))
    parts = Path(os.path.normpath(spec)).parts
    if spec.endswith(SUFFIX) and len(parts) > 1 and parts[0] == "recipes":
        name = Path(*parts[1:]).with_suffix("").as_posix()
        if name in names:
            return names[name]
    if not spec.endswith(SUFFIX) and path.with_name(path.name + SUFFIX).is_file():
        return path.with_name(path.name + SUFFIX)
    kind = "recipe file" if spec.endswith(SUFFIX) else "recipe"
    raise RecipeError(f"there is no {kind} {spec!r}", _suggestion(spec, names))


def find_base(value: str, child: Path) -> Path:
    """The recipe that `extends = value` in the file `child` means: a bundled name, or a .toml path relative to it.

    Raises:
        RecipeError: there is no such recipe.
    """
    names = bundled()
    if value in names:
        return names[value]
    path = child.parent / Path(value).expanduser()
    if value.endswith(SUFFIX) and path.is_file():
        return path
    raise RecipeError(
        f'{shown(child)}: extends = "{value}": there is no such recipe',
        f"extends takes a bundled name or a {SUFFIX} path relative to the file; {_suggestion(value, names)}",
    )


def _suggestion(spec: str, names: dict[str, Path]) -> str:
    """ "did you mean r50 or ...?" by whole names and by their last parts, and the command that lists them."""
    wanted = spec.removesuffix(SUFFIX).removeprefix("./").removeprefix("recipes/").lower()
    scores = {name: max(_likeness(wanted, name), _likeness(_last(wanted), _last(name))) for name in names}
    best = max(scores.values(), default=0.0)
    nearest = [name for name, score in scores.items() if score >= max(LIKE, best - TIE)]
    listing = "`fcos recipe list` names them all"
    return f"did you mean {' or '.join(nearest[:3])}? {listing}" if nearest else listing


def _likeness(one: str, other: str) -> float:
    return difflib.SequenceMatcher(None, one, other).ratio()


def _last(name: str) -> str:
    return name.rpartition("/")[2]


def read_text(path: Path) -> str:
    """The text of a recipe file; a UTF-8 byte-order mark is dropped.

    Raises:
        RecipeError: the file cannot be read or is not UTF-8.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise RecipeError(f"{shown(path)}: cannot be read: {error.strerror or error}") from error
    if content.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise RecipeError(f"{shown(path)}: the text is UTF-16; TOML is UTF-8", "save the file as UTF-8")
    try:
        return content.removeprefix(b"\xef\xbb\xbf").decode("utf-8")
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        byte = error.object[error.start]
        raise RecipeError(
            f"{shown(path)}:{line}: byte 0x{byte:02x} is not UTF-8 text", "save the file as UTF-8"
        ) from error


def read_toml(path: Path) -> dict[str, Any]:
    """The tables of a recipe file.

    Raises:
        RecipeError: the file cannot be read or is not TOML; names file and line, and shows the line.
    """
    text = read_text(path)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        position = _POSITION.search(str(error))
        lines = text.splitlines() or [""]
        line = int(position[1]) if position and position[1] else len(lines)
        reason = _POSITION.sub("", str(error))
        content = lines[line - 1].strip() if line <= len(lines) else ""
        problem = f"{shown(path)}:{line}: not valid TOML: {reason[:1].lower()}{reason[1:]}"
        raise RecipeError(
            f"{problem}: {content}" if content else problem,
            'texts stand in quotes (norm = "gn"), truth values are true and false, tables open with [train]',
        ) from error
    except RecursionError as error:
        raise RecipeError(f"{shown(path)}: the tables or arrays are nested too deeply") from error
