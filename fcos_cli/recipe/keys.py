"""The keys of the schema as text: what each allows, its default, its description; and TOML spelling of values."""

import itertools
import json
import math
import re
import textwrap
import types
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import tomli_w
from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError
from pydantic.fields import FieldInfo

from fcos_cli.method.by_name import ByName
from fcos_cli.method.registry import methods
from fcos_cli.method.table import DEFAULT_METHOD
from fcos_cli.recipe.schema import Recipe

STRICT = ConfigDict(strict=True, allow_inf_nan=False)
WIDTH = 100
_BARE = re.compile(r"[A-Za-z0-9_-]+")


@dataclass(frozen=True)
class Key:
    """One key: its dotted name, its table ("" at the top), what it allows in words, its choices if it has any.

    `method` is the method whose key it is, "" of a key that every recipe has.
    """

    name: str
    table: str
    allowed: str
    choices: tuple[str, ...]
    default: Any
    description: str
    annotation: Any
    method: str = ""

    def accepts(self, value: object) -> bool:
        """Whether the schema takes this value for the key."""
        try:
            TypeAdapter(self.annotation, config=STRICT).validate_python(value)
        except ValidationError:
            return False
        return True

    def as_dict(self) -> dict[str, Any]:
        """The key as JSON has it."""
        return {
            "key": self.name,
            "method": self.method or None,
            "allowed": self.allowed,
            "choices": list(self.choices),
            "default": json_value(self.default),
            "description": self.description,
        }


@cache
def all_keys(method: str = DEFAULT_METHOD) -> dict[str, Key]:
    """Every key of a recipe whose tables are all of this method, by its dotted name, in the order of the schema.

    A table that the method lacks has the keys of the default method.
    """
    return {key.name: key for key in _keys_of(Recipe, "", method)}


def own_keys(method: str) -> dict[str, Key]:
    """The keys that are a method's own."""
    return {name: key for name, key in all_keys(method).items() if key.method == method}


def other_methods() -> list[str]:
    """Names of all methods but the default one."""
    return [name for name in methods() if name != DEFAULT_METHOD]


@cache
def all_tables() -> dict[str, str]:
    """Every table by its dotted name ("" is the top), with what it is about."""
    return {name: about for name, about, _ in _tables_of(Recipe, "")}


@cache
def method_tables() -> dict[str, ByName]:
    """The tables that are told apart by their key `name`, by their dotted names."""
    return {name: choice for name, _, choice in _tables_of(Recipe, "") if choice is not None}


def _keys_of(model: type[BaseModel], table: str, method: str, owner: str = "") -> Iterator[Key]:
    prefix = f"{table}." if table else ""
    for name, field in model.model_fields.items():
        choice = _choice(field)
        if choice is not None:
            chosen = method if method in choice.tables else DEFAULT_METHOD
            yield from _keys_of(choice.tables[chosen], prefix + name, method, chosen)
        elif _is_table(field):
            yield from _keys_of(field.annotation, prefix + name, method)  # type: ignore[arg-type]
        else:
            annotation = Annotated[(field.annotation, *field.metadata)] if field.metadata else field.annotation
            if table in method_tables() and name == "name":
                annotation = Literal[tuple(method_tables()[table].tables)]
            yield Key(
                prefix + name,
                table,
                describe(annotation),
                _choices(annotation),
                field.default,
                field.description or "",
                annotation,
                owner,
            )


def _tables_of(
    model: type[BaseModel], table: str, choice: ByName | None = None
) -> Iterator[tuple[str, str, ByName | None]]:
    yield table, (model.__doc__ or "").partition("\n")[0], choice
    for name, field in model.model_fields.items():
        if _is_table(field):
            below = _choice(field)
            kind = below.tables[DEFAULT_METHOD] if below else field.annotation
            yield from _tables_of(kind, f"{table}.{name}" if table else name, below)  # type: ignore[arg-type]


def _is_table(field: FieldInfo) -> bool:
    return isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)


def _choice(field: FieldInfo) -> ByName | None:
    return next((item for item in field.metadata if isinstance(item, ByName)), None)


def describe(annotation: Any) -> str:
    """What a key of this type allows, in words: "a whole number >= 1", 'one of "sgd", "adamw"'."""
    inner, constraints = _unwrap(annotation)
    origin, parts = get_origin(inner), get_args(inner)
    if origin is Literal:
        return "one of " + ", ".join(toml_value(part) for part in parts)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(part) for part in parts if part is not type(None))
    if origin is list:
        return f"an array of items, each {describe(parts[0])}"
    if origin is tuple:
        return f"an array of {len(parts)} items, each {describe(parts[0])}"
    if inner is bool:
        return "true or false"
    if inner is str:
        return "a text in quotes"
    return ("a whole number" if inner is int else "a number") + _bounds(constraints)


def _unwrap(annotation: Any) -> tuple[Any, list[Any]]:
    """The bare type and its constraints, those inside pydantic's Field included."""
    if get_origin(annotation) is not Annotated:
        return annotation, []
    inner, *metadata = get_args(annotation)
    bare, constraints = _unwrap(inner)
    for item in metadata:
        constraints += item.metadata if isinstance(item, FieldInfo) else [item]
    return bare, constraints


def _bounds(constraints: list[Any]) -> str:
    lower = upper = ""
    for item in constraints:
        if isinstance(item, annotated_types.Ge):
            lower = f">= {item.ge}"
        elif isinstance(item, annotated_types.Gt):
            lower = f"> {item.gt}"
        elif isinstance(item, annotated_types.Le):
            upper = f"<= {item.le}"
        elif isinstance(item, annotated_types.Lt):
            upper = f"< {item.lt}"
    bounds = " and ".join(bound for bound in (lower, upper) if bound)
    return f" {bounds}" if bounds else ""


def _choices(annotation: Any) -> tuple[str, ...]:
    inner, _ = _unwrap(annotation)
    return get_args(inner) if get_origin(inner) is Literal else ()


def dotted(table: str, key: str) -> str:
    """Dotted name of a key in a table; a key that TOML must quote is quoted."""
    name = key if _BARE.fullmatch(key) else json.dumps(key, ensure_ascii=False)
    return f"{table}.{name}" if table else name


def toml_value(value: Any) -> str:
    """One value as TOML on one line (tomli_w takes one line for each item of an array); None is "unset"."""
    if value is None:
        return "unset"
    if isinstance(value, list | tuple):
        return f"[{', '.join(toml_value(item) for item in value)}]"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key} = {toml_value(item)}" for key, item in value.items()) + "}"
    return tomli_w.dumps({"value": value}).removeprefix("value = ").rstrip("\n")


def json_value(value: Any) -> Any:
    """The value as strict JSON has it: an infinite range end is the text "inf"."""
    if isinstance(value, Mapping):
        return {key: json_value(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item) for item in value]
    return "inf" if value == math.inf else value


def reference(keys: Iterable[Key], others: Iterable[Key] = ()) -> str:
    """The keys as a commented recipe with every default: above each key what it does and what it allows.

    `others`, the keys of other methods, follow as comments, method by method: a table is of one method.
    """
    lines = _lines(keys)
    for method, own in itertools.groupby(others, key=lambda key: key.method):
        lines += ["", f"# The tables of {method}: {methods()[method].summary}"]
        lines += [f"# {line}".rstrip() for line in _lines(own)]
    return "\n".join(lines).strip("\n") + "\n"


def _lines(keys: Iterable[Key]) -> list[str]:
    lines: list[str] = []
    table = ""
    for key in keys:
        if key.table != table:
            table = key.table
            choice = method_tables().get(table)
            about = choice.tables[key.method].__doc__ if choice else all_tables()[table]
            lines += ["", f"# {(about or '').partition(chr(10))[0]}", f"[{table}]"]
        last = key.name.rpartition(".")[2]
        lines.append("")
        for text in (key.description, f"Allowed: {key.allowed}"):
            lines += textwrap.wrap(text, WIDTH, initial_indent="# ", subsequent_indent="# ", break_long_words=False)
        lines.append(f"# {last} = ..." if key.default is None else f"{last} = {toml_value(key.default)}")
    return lines
