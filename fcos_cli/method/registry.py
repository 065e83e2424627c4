"""All methods by name: those in this package, and those that installed packages add by an entry point.

    [project.entry-points."fcos_cli.methods"]
    mine = "my_package:METHOD"

Imports no torch, and neither should a package's entry point.
"""

import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points
from types import MappingProxyType
from typing import Literal, TypeVar

from pydantic import BaseModel

from fcos_cli.method.fcos import FCOS
from fcos_cli.method.interface import AssignerPart, HeadPart, LossPart, Method
from fcos_cli.method.table import AssignConfig, HeadConfig, LossConfig, MethodTable

_NAME = re.compile("[a-z][a-z0-9_]*")
GROUP = "fcos_cli.methods"
BUILT_IN: tuple[Method, ...] = (FCOS,)
PartName = Literal["assigner", "head", "losses"]
P = TypeVar("P", AssignerPart, HeadPart, LossPart)


@cache
def _all() -> tuple[Mapping[str, Method], Mapping[str, str]]:
    """Methods by name, and of those that could not be loaded the reason."""
    known = {method.name: method for method in BUILT_IN}
    broken: dict[str, str] = {}
    for point in entry_points(group=GROUP):
        package = point.dist.name if point.dist else point.value
        try:
            method = point.load()
        except (Exception, SystemExit) as error:  # whatever a stranger's package does, it must not stop every command
            broken[point.name] = f"package {package} failed to load: {type(error).__name__}: {error}"
            continue
        if not isinstance(method, Method):
            broken[point.name] = f"package {package}: {point.value} is no fcos_cli.method.interface.Method"
        elif method.name in known:
            broken[point.name] = f"package {package}: there is a method {method.name!r} already"
        elif fault := _fault(method):
            broken[point.name] = f"package {package}: the method {method.name!r} {fault}"
        else:
            known[method.name] = method
    return MappingProxyType(known), MappingProxyType(broken)


def _fault(method: Method) -> str:
    """What keeps a recipe from naming a method; "" of a sound one."""
    if not _NAME.fullmatch(str(method.name)):
        return "must have a name in lower-case letters, digits and _"
    parts = ((method.assigner, AssignConfig), (method.head, HeadConfig), (method.losses, LossConfig))
    if not any(part for part, _ in parts):
        return "has neither an assigner, nor a head, nor losses"
    for part, base in parts:
        if part is None:
            continue
        table = part.table
        if not (isinstance(table, type) and issubclass(table, base)):
            return f"has a table that is no subclass of {base.__name__}"
        if table.model_fields["name"].default != method.name:
            return f'needs name: Literal["{method.name}"] = "{method.name}" in {table.__name__}'
        for key, field in table.model_fields.items():
            nested = isinstance(field.annotation, type) and issubclass(field.annotation, BaseModel)
            if nested or field.is_required() or field.default_factory is not None or not field.description:
                return f"needs a plain key with a default and a description, which {table.__name__}.{key} is not"
    return ""


def methods() -> Mapping[str, Method]:
    """Every method by its name in recipes, FCOS first."""
    return _all()[0]


def broken_methods() -> Mapping[str, str]:
    """Entry points that gave no method, and why."""
    return _all()[1]


def tables(part: PartName) -> dict[str, type[MethodTable]]:
    """The table of each method that has this part."""
    parts = ((name, getattr(method, part)) for name, method in methods().items())
    return {name: own.table for name, own in parts if own is not None}


def assigner_of(config: AssignConfig) -> AssignerPart:
    """The assigner whose table this is."""
    return _part(config, (method.assigner for method in methods().values()))


def head_of(config: HeadConfig) -> HeadPart:
    """The head whose table this is."""
    return _part(config, (method.head for method in methods().values()))


def losses_of(config: LossConfig) -> LossPart:
    """The losses whose table this is."""
    return _part(config, (method.losses for method in methods().values()))


def _part(config: MethodTable, parts: Iterable[P | None]) -> P:
    for part in parts:
        if part is not None and type(config) is part.table:
            return part
    raise TypeError(f"{type(config).__name__} is the table of no method")
