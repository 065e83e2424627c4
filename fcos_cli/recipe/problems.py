"""Checks a recipe's values against the schema and the rules, and words everything that is wrong in one error."""

import difflib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from functools import reduce
from typing import Any

from pydantic import ValidationError

from fcos_cli.errors import RecipeError
from fcos_cli.method.registry import broken_methods, methods
from fcos_cli.method.table import DEFAULT_METHOD
from fcos_cli.recipe.keys import Key, all_keys, all_tables, dotted, method_tables, own_keys, toml_value
from fcos_cli.recipe.rules import contradictions
from fcos_cli.recipe.schema import Recipe

SHOWN_CHARACTERS = 80
YES, NO = frozenset({"true", "yes", "on"}), frozenset({"false", "no", "off"})


class InvalidRecipeError(RecipeError):
    """A recipe that cannot hold. `problems` has one line for each thing to mend."""

    def __init__(self, name: str, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        if len(problems) == 1:
            message = f"recipe {name}: {problems[0]}"
        else:
            message = "\n".join([f"recipe {name}: {len(problems)} problems", *(f"  - {line}" for line in problems)])
        super().__init__(message, "`fcos recipe keys` lists every key, what it allows and its default")


def validate(values: Mapping[str, Any], *, name: str, origins: Mapping[str, str] | None = None) -> Recipe:
    """The recipe that these nested tables stand for.

    Args:
        values: the tables as TOML gives them.
        name: what to call the recipe in an error.
        origins: dotted key -> where it was written, to say so in an error.

    Raises:
        InvalidRecipeError: unknown keys, wrong types or values, contradictions between keys; all of them at once.
    """
    origins = origins or {}
    recipe, bad = _parse(values, origins)
    # Keys that are wrong on their own stand at their defaults in `recipe`: no rule may judge them.
    clashes = [clash for clash in contradictions(recipe) if not any(_is_bad(key, bad) for key in clash.keys)]
    problems = list(bad.values()) + [clash.message for clash in clashes]
    if problems:
        raise InvalidRecipeError(name, problems)
    return recipe


def _parse(values: Mapping[str, Any], origins: Mapping[str, str]) -> tuple[Recipe, dict[str, str]]:
    """The recipe of the keys that are right (defaults for the others), and what is wrong with each of the others."""
    try:
        return Recipe.model_validate(values), {}
    except ValidationError as error:
        failures = error.errors(include_url=False, include_context=False)
    bad: dict[str, str] = {}
    for item in failures:
        path, method = _key_path(item["loc"])
        key = _name(path)
        if key in bad:
            continue  # one line a key: a union fails once for each of its members
        given = _at(values, path)
        if item["type"] == "union_tag_invalid":
            # The whole table is left out: its keys are those of a method that is not known.
            bad[key] = _with_origin(_unknown_method(key, given["name"]), origins.get(f"{key}.name"))
            continue
        if item["type"] == "extra_forbidden":
            text = unknown_key(key, given, method)
        elif key in all_tables():
            text = f"{key} is a table of keys ([{key}]), not {_short(given)}"
        else:
            text = wrong_value(all_keys(method)[key], given)
        bad[key] = _with_origin(text, origins.get(key))
    return Recipe.model_validate(_without(values, bad)), bad


def _is_bad(key: str, bad: Mapping[str, str]) -> bool:
    """Whether a key, or the table that holds it, stands at its default because it is wrong."""
    return key in bad or key.rpartition(".")[0] in bad


def _with_origin(text: str, origin: str | None) -> str:
    return text if origin is None else f"{text} ({origin})"


def _key_path(location: Sequence[int | str]) -> tuple[tuple[str, ...], str]:
    """The part of pydantic's location that names a table or key, and the method that the table is of.

    The location goes on into arrays and union members; below a table of a method it has the method's name.
    """
    path: tuple[str, ...] = ()
    method, parts = DEFAULT_METHOD, iter(location)
    for part in parts:
        path = (*path, str(part))
        if _name(path) in method_tables():
            method = str(next(parts, DEFAULT_METHOD))
        if _name(path) not in all_tables():
            break
    return path, method


def _name(path: Sequence[str]) -> str:
    return reduce(dotted, path, "")


def _at(values: Mapping[str, Any], path: Sequence[str]) -> Any:
    here: Any = values
    for part in path:
        here = here[part]
    return here


def _without(values: Mapping[str, Any], bad: Mapping[str, str], table: str = "") -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in values.items():
        name = dotted(table, key)
        if name not in bad:
            kept[key] = _without(value, bad, name) if isinstance(value, Mapping) else value
    return kept


def _unknown_method(table: str, given: Any) -> str:
    """'assign.name = "atts" must be one of ...', with the reason where a package should have brought it."""
    text = wrong_value(all_keys()[f"{table}.name"], given)
    reason = broken_methods().get(given) if isinstance(given, str) else None
    return f"{text} ({reason})" if reason else text


def unknown_key(key: str, given: Any, method: str = DEFAULT_METHOD) -> str:
    """ "unknown key train.batchsize; did you mean train.batch_size?", or what its table holds instead.

    A key of another method than the table's is said to be that method's.
    """
    table, _, last = key.rpartition(".")
    noun = "table" if isinstance(given, Mapping) else "key"
    owners = [name for name in methods() if name != method and key in own_keys(name)]
    if owners:
        whose = " or ".join(toml_value(name) for name in owners)
        return f'{key} is a key of {table}.name = {whose}, and this recipe has {table}.name = "{method}"'
    nearest = _nearest_keys(table, last, noun, method)
    if nearest:
        return f"unknown {noun} {key}; did you mean {' or '.join(nearest)}?"
    names = _members(table, method)
    return f"unknown {noun} {key}; {f'[{table}]' if table else 'a recipe'} has {', '.join(names)}"


def _members(table: str, method: str = DEFAULT_METHOD) -> list[str]:
    """Names of the keys and tables right inside a table."""
    names = [*all_keys(method), *(name for name in all_tables() if name)]
    return [name.rpartition(".")[2] for name in names if name.rpartition(".")[0] == table]


def _nearest_keys(table: str, last: str, noun: str, method: str = DEFAULT_METHOD) -> list[str]:
    """Dotted names that were likely meant: a near name in this table, then the same or a near name anywhere."""
    prefix = f"{table}." if table else ""
    members = _members(table, method)
    here = difflib.get_close_matches(_plain(last), {_plain(name): name for name in members}, n=1, cutoff=0.7)
    if here:
        return [prefix + name for name in members if _plain(name) == here[0]][:1]
    pool = list(all_tables()) if noun == "table" else list(all_keys(method))
    by_last: dict[str, list[str]] = {}
    for name in pool:
        by_last.setdefault(_plain(name.rpartition(".")[2]), []).append(name)
    if _plain(last) in by_last:
        return by_last[_plain(last)][:3]
    close = difflib.get_close_matches(_plain(last), by_last, n=1, cutoff=0.75)
    return by_last[close[0]][:3] if close else []


def nearest_keys(name: str) -> list[str]:
    """Dotted names of keys and tables that end like this dotted name."""
    table, _, last = name.rpartition(".")
    return _nearest_keys(table, last, "key") or _nearest_keys(table, last, "table")


def _plain(name: str) -> str:
    """Spelling without what people vary: case, dashes, underscores, British endings."""
    return name.lower().replace("-", "").replace("_", "").replace("centre", "center").replace("normalise", "normalize")


def wrong_value(key: Key, given: Any) -> str:
    """ "train.batch_size = "8" must be a whole number >= 1; did you mean 8?"."""
    text = f"{key.name} = {_short(given)} must be {key.allowed}"
    nearest = _nearest_value(key, given)
    return f"{text}; did you mean {nearest}?" if nearest else text


def _nearest_value(key: Key, given: Any) -> str:
    """The value that was likely meant, as TOML; "" where nothing is near."""
    if key.choices:
        by_plain = {_plain(choice): choice for choice in key.choices}
        close = difflib.get_close_matches(_plain(str(given)), by_plain, n=1, cutoff=0.5)
        return toml_value(by_plain[close[0]]) if close else ""
    return next((toml_value(other) for other in _respellings(given) if key.accepts(other)), "")


def _respellings(given: Any) -> Iterator[Any]:
    """The same value in other types: "8" and 8.0 as 8, "yes" as true, 2017 as "2017", 4 as [4]."""
    if isinstance(given, bool):
        return
    if isinstance(given, str):
        if given.lower() in YES | NO:
            yield given.lower() in YES
        with suppress(ValueError):
            number = float(given)
            if number.is_integer():
                yield int(number)
            yield number
    elif isinstance(given, int | float):
        if float(given).is_integer():
            yield int(given)
        if given in (0, 1):
            yield bool(given)
        yield str(given)
        yield [given]


def _short(value: Any) -> str:
    text = toml_value(value)
    return text if len(text) <= SHOWN_CHARACTERS else f"{text[:SHOWN_CHARACTERS]}..."
