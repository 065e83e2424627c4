"""From a name or a file and `--set` overrides to a checked recipe, and back to TOML."""

import datetime
import logging
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fcos_cli.errors import RecipeError
from fcos_cli.method.by_name import method_name
from fcos_cli.recipe.files import bundled, bundled_name, find_base, find_recipe, read_toml, shown
from fcos_cli.recipe.keys import dotted, method_tables, toml_value
from fcos_cli.recipe.problems import validate
from fcos_cli.recipe.schema import Recipe

__all__ = ["LoadedRecipe", "bundled", "load_recipe", "parse_override", "to_toml"]

logger = logging.getLogger(__name__)

OVERRIDE_SOURCE = "--set"
OWN_KEYS = ("description", "published_ap")
"""What `extends` does not hand down: they speak of the recipe itself."""
_KEY = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
_DATES = (datetime.date, datetime.time)


@dataclass(frozen=True)
class LoadedRecipe:
    """A sound recipe: its name (bundled, or else its file's stem), its file, its values, and the file it extends."""

    name: str
    source: Path
    recipe: Recipe
    base: Path | None = None


def load_recipe(spec: str, overrides: Sequence[str] = ()) -> LoadedRecipe:
    """Reads a recipe, merges it over the one it extends, applies `--set` overrides and checks the whole.

    Args:
        spec: path of a TOML file, or the name of a bundled recipe ("r50", "ablations/p4_only").
        overrides: "table.key=VALUE" texts; VALUE is TOML, and a word that is not TOML is taken as a text.

    Raises:
        RecipeError: no such recipe, not TOML, or keys and values that cannot hold; all of them in one error.
    """
    source = find_recipe(spec)
    values = read_toml(source)
    origins = _origins(values, shown(source))
    base: Path | None = None
    left: list[str] = []
    if "extends" in values:
        base = _base_of(values.pop("extends"), source)
        inherited = read_toml(base)
        if "extends" in inherited:
            raise RecipeError(
                f"{shown(source)} extends {shown(base)}, which extends {inherited['extends']!r}: one level only",
                f"extend {inherited['extends']!r} directly and repeat the lines of {shown(base)} that you need",
            )
        for key in OWN_KEYS:
            inherited.pop(key, None)
        origins = _origins(inherited, shown(base)) | origins
        left = _left_out(inherited, values)
        values = merge(inherited, values)
    changes: dict[str, Any] = {}
    for override in overrides:  # together, so that no override is lost to another that names a method
        change = parse_override(override)
        origins |= _origins(change, OVERRIDE_SOURCE)
        changes = merge(changes, change, keep=True)
    left += _left_out(values, changes)
    values = merge(values, changes)
    name = bundled_name(source) or source.stem
    recipe = validate(values, name=spec, origins=origins)
    for line in left:
        logger.info(line)
    return LoadedRecipe(name, source, recipe, base)


def _base_of(value: object, source: Path) -> Path:
    if not isinstance(value, str) or not value:
        raise RecipeError(
            f"{shown(source)}: extends must be one recipe's name or path, not {value!r}", 'for example extends = "r50"'
        )
    return find_base(value, source)


def parse_override(text: str) -> dict[str, Any]:
    """The nested tables that a `--set` text stands for: "a.b=1" -> {"a": {"b": 1}}.

    VALUE is parsed as TOML; a word that is not TOML (gn, ../data/mine, nothing at all) is taken as a text.

    Raises:
        RecipeError: no "=", a key that is not dotted names, or a value that opens a bracket or quote and is not TOML.
    """
    key, equals, value = text.partition("=")
    key, value = key.strip(), value.strip()
    example = "write --set table.key=VALUE, for example --set train.batch_size=8"
    if not equals:
        raise RecipeError(f"--set {text}: there is no =", example)
    if not _KEY.fullmatch(key):
        raise RecipeError(f"--set {text}: {key!r} is not a dotted key", example)
    first, *rest = key.split(".")
    below = _parse_value(value, text)
    for part in reversed(rest):
        below = {part: below}
    return {first: below}


def _parse_value(value: str, text: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {value}")
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        if value.startswith(("[", "{", '"', "'")) or "\n" in value:
            raise RecipeError(
                f"--set {text}: the value is not valid TOML",
                "quote the whole for the shell, for example --set 'data.short_side=[640, 800]'",
            ) from error
        return value
    if len(parsed) != 1:
        raise RecipeError(f"--set {text}: one key and one value only", "repeat --set for every key")
    # No key takes a date: 2024-05-01 is the name of somebody's data set.
    return value if isinstance(parsed["value"], _DATES) else parsed["value"]


def _left_out(base: Mapping[str, Any], change: Mapping[str, Any]) -> list[str]:
    """A line for each table that changes its method by `merge`: which keys it leaves."""
    lines = []
    for table in method_tables():
        below, above = _table(base, table), _table(change, table)
        if _starts_anew(below, above) and (keys := [key for key in below if key != "name"]):
            was, now = (toml_value(name) for name in (method_name(below), above["name"]))
            lines.append(f"[{table}] of {was} gives way to that of {now}: without {', '.join(keys)}")
    return lines


def _table(values: Mapping[str, Any], table: str) -> Mapping[str, Any]:
    here: Any = values
    for part in table.split("."):
        here = here.get(part, {}) if isinstance(here, Mapping) else {}
    return here if isinstance(here, Mapping) else {}


def _starts_anew(below: Mapping[str, Any], above: Mapping[str, Any]) -> bool:
    return "name" in above and above["name"] != method_name(below)


def merge(base: Mapping[str, Any], change: Mapping[str, Any], table: str = "", *, keep: bool = False) -> dict[str, Any]:
    """`change` over `base`: tables are merged key by key, anything else (arrays too) is replaced.

    A table whose `name` changes starts anew, unless told to `keep`: the keys of one method mean nothing, or something
    else, to another.
    """
    merged = dict(base)
    for key, value in change.items():
        below, name = merged.get(key), dotted(table, key)
        if isinstance(below, Mapping) and isinstance(value, Mapping):
            anew = not keep and name in method_tables() and _starts_anew(below, value)
            merged[key] = dict(value) if anew else merge(below, value, name, keep=keep)
        else:
            merged[key] = value
    return merged


def _origins(values: Mapping[str, Any], source: str, table: str = "") -> dict[str, str]:
    """Dotted key -> where it was written, for every key and table."""
    origins: dict[str, str] = {}
    for key, value in values.items():
        name = dotted(table, key)
        origins[name] = source
        if isinstance(value, Mapping):
            origins |= _origins(value, source, name)
    return origins


def to_toml(recipe: Recipe) -> str:
    """The resolved recipe as TOML: every key that has a value. It loads back to an equal recipe."""
    return "\n".join(_table_lines(recipe.model_dump(exclude_none=True), "")).strip("\n") + "\n"


def _table_lines(values: Mapping[str, Any], table: str) -> list[str]:
    plain = {key: value for key, value in values.items() if not isinstance(value, Mapping)}
    lines = ["", f"[{table}]"] if table and plain else []
    lines += [f"{key} = {toml_value(value)}" for key, value in plain.items()]
    for key, value in values.items():
        if isinstance(value, Mapping):
            lines += _table_lines(value, dotted(table, key))
    return lines
