"""What tables of a recipe are made of: the base class, and the types of their keys. Imports no torch."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import AllowInfNan, BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, Strict, model_serializer

Positive = Annotated[int, Field(ge=1)]
Count = Annotated[int, Field(ge=0)]
Fraction = Annotated[float, Field(ge=0, le=1)]
NonNegative = Annotated[float, Field(ge=0)]
Bound = Annotated[float, Field(ge=0), AllowInfNan(True)]
# TOML has arrays, not tuples: these accept a list although tables are strict about types.
Range = Annotated[tuple[Bound, Bound], Strict(False)]
Span = Annotated[tuple[Positive, Positive], Strict(False)]
Triple = Annotated[tuple[float, float, float], Strict(False)]
Above0 = Annotated[float, Field(gt=0)]
PositiveTriple = Annotated[tuple[Above0, Above0, Above0], Strict(False)]

DEFAULT_METHOD = "fcos"
"""The method of a recipe that names none."""


class Table(BaseModel):
    """One table of a recipe: frozen, closed to keys that it does not know, and strict about types ("8" is no number).

    JSON carries infinite range ends as `Infinity`: `model_validate_json(model_dump_json())` gives the same recipe.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", strict=True, allow_inf_nan=False, ser_json_inf_nan="constants"
    )


class MethodTable(Table):
    """A table of a method; `name` tells which method's it is. Subclasses narrow it to one word, their default.

    The default method's name is not written out, so that its recipes read as they did before there were others.
    """

    name: str = DEFAULT_METHOD

    @model_serializer(mode="wrap")
    def _without_the_default_name(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        values: dict[str, Any] = handler(self)
        return {key: value for key, value in values.items() if (key, value) != ("name", DEFAULT_METHOD)}


class AssignConfig(MethodTable):
    """`[assign]`: which locations learn which box. A method's own keys come in a subclass."""

    def facts(self) -> dict[str, Any]:
        """What the JSON of the statistics says of the assignment."""
        return {"assign": self.model_dump()}

    def in_words(self) -> str:
        """The same in a few words for a title; "" where there is nothing to say."""
        return self.name

    def alternatives(self) -> Iterator[tuple[str, "AssignConfig"]]:
        """(name of the change, changed table) of what `fcos stats advise` may try on a data set."""
        return iter(())


class HeadConfig(MethodTable):
    """`[model.head]`: the head that all levels share. A method's own keys come in a subclass."""


class LossConfig(MethodTable):
    """`[loss]`: the terms of the training loss. A method's own keys come in a subclass."""
