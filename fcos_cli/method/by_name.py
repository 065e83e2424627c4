"""Tables that are told apart by their key `name`: `[assign]`, `[model.head]` and `[loss]` of the methods there are."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import GetCoreSchemaHandler
from pydantic_core import CoreSchema, core_schema

from fcos_cli.method.registry import PartName, tables
from fcos_cli.method.table import DEFAULT_METHOD, MethodTable


@dataclass(frozen=True)
class ByName:
    """Annotation of a recipe's field: the table of that part of the method that `name` names (default: fcos)."""

    part: PartName

    @property
    def tables(self) -> dict[str, type[MethodTable]]:
        """The tables to choose from."""
        return tables(self.part)

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        choices = {name: handler.generate_schema(table) for name, table in self.tables.items()}
        return core_schema.tagged_union_schema(choices, discriminator=method_name)


def method_name(value: object) -> object:
    """The method that a table, or the mapping that it will be made of, belongs to."""
    if isinstance(value, Mapping):
        return value.get("name", DEFAULT_METHOD)
    return getattr(value, "name", DEFAULT_METHOD)
