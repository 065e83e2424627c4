"""Choices of a recipe with their reasons, and the file that they make."""

import textwrap
from dataclasses import dataclass
from typing import Any

from fcos_cli.recipe.keys import toml_value
from fcos_cli.recipe.schema import Recipe

WIDTH = 110


@dataclass(frozen=True)
class Choice:
    """The keys of one table that are set for one reason.

    Attributes:
        table: such as "model.backbone".
        keys: with their values.
        reason: a sentence, for the comment above them.
    """

    table: str
    keys: dict[str, Any]
    reason: str


class Draft:
    """Choices as they are made; later ones replace earlier ones of the same key."""

    def __init__(self) -> None:
        self.choices: list[Choice] = []

    def choose(self, table: str, reason: str, **keys: Any) -> None:
        """Set keys of a table."""
        earlier = []
        for choice in self.choices:
            left = {key: value for key, value in choice.keys.items() if choice.table != table or key not in keys}
            if left:
                earlier.append(Choice(choice.table, left, choice.reason))
        self.choices = [*earlier, Choice(table, keys, reason)]

    def recipe(self) -> Recipe:
        """The recipe that the choices make, so far."""
        content: dict[str, Any] = {}
        for choice in self.choices:
            table = content
            for part in choice.table.split("."):
                table = table.setdefault(part, {})
            table.update(choice.keys)
        return Recipe.model_validate(content)

    def text(self, head: str, description: str) -> str:
        """The TOML file: `head` as its first comment, each choice below its reason."""
        lines = [*_comment(head), "", f"description = {toml_value(description)}"]
        for table in dict.fromkeys(choice.table for choice in self.choices):
            lines += ["", f"[{table}]"]
            for choice in self.choices:
                if choice.table == table:
                    lines += _comment(choice.reason)
                    lines += [f"{key} = {toml_value(value)}" for key, value in choice.keys.items()]
        return "\n".join(lines) + "\n"


def _comment(text: str) -> list[str]:
    lines = [line for part in text.split("\n") for line in textwrap.wrap(part, WIDTH - 2) or [""]]
    return [f"# {line}".rstrip() for line in lines]
