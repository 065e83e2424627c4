"""What every verb of `fcos stats` can be asked: the data, how boxes are assigned, and how to show the result."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fcos_cli.errors import UsageError
from fcos_cli.report import console

if TYPE_CHECKING:
    from fcos_cli.data.records import DetectionData
    from fcos_cli.method.table import AssignConfig
    from fcos_cli.recipe.schema import Recipe
    from fcos_cli.stats.boxes import Setting

NAMED_LEVELS = {"fpn": (3, 4, 5, 6, 7), "p4": (4,)}
Convention = Literal["exact", "paper"]
PANEL = "How boxes are assigned"


@dataclass(frozen=True)
class Request:
    """The options that all verbs share."""

    data: Annotated[str, typer.Option("--data", help="A name, a folder or an annotation file.", show_default=False)]
    split: Annotated[str | None, typer.Option("--split", help="train, val, test, ...", show_default=False)] = None
    convention: Annotated[
        Convention,
        typer.Option(
            "--convention",
            help="exact: what training uses. paper: the authors' inclusive pixels.",
            rich_help_panel=PANEL,
        ),
    ] = "exact"
    levels: Annotated[
        str | None,
        typer.Option(
            "--levels",
            help="fpn, p4, or numbers such as 3,4,5 (default: the recipe's, or fpn).",
            rich_help_panel=PANEL,
        ),
    ] = None
    recipe: Annotated[
        str | None,
        typer.Option(
            "--recipe",
            help="Take levels, ranges, sizes and centre sampling from it, or from a run folder.",
            show_default=False,
            rich_help_panel=PANEL,
        ),
    ] = None
    short: Annotated[
        int | None,
        typer.Option("--short", min=1, help="Short side in pixels (default: recipe's, or 800).", rich_help_panel=PANEL),
    ] = None
    long: Annotated[
        int | None,
        typer.Option(
            "--long", min=1, help="Longest side in pixels (default: recipe's, or 1333).", rich_help_panel=PANEL
        ),
    ] = None
    center_sampling: Annotated[
        float | None,
        typer.Option(
            "--center-sampling",
            min=0,
            help="Radius in strides, 0 is off (default: the recipe's, or 0).",
            rich_help_panel=PANEL,
        ),
    ] = None
    workers: Annotated[
        int | None,
        typer.Option("--workers", min=1, help="Processes (default: by the number of boxes); same figures for any."),
    ] = None
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Draw the figures (PNG).", metavar="FILE", show_default=False)
    ] = None
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False

    def open(self) -> "DetectionData":
        """The data set. Raises DataError where there is none."""
        from fcos_cli.data.datasets import open_data
        from fcos_cli.data.findings import Weight

        data = open_data(self.data, self.split)
        for finding in data.findings:
            # Boxes that were left out are named with the figures; where images lie does not matter to these.
            if not finding.kind.boxes and finding.kind.weight is not Weight.NOTE:
                console.warn(f"{data.name}: {finding.line}")
        return data

    def load_recipe(self) -> "Recipe | None":
        """The recipe, where one is named; a run folder names the one it was trained with.

        Raises RecipeError where it does not hold.
        """
        from fcos_cli.recipe.load import load_recipe

        if self.recipe is None:
            return None
        trained = Path(self.recipe) / "recipe.toml"
        return load_recipe(str(trained) if trained.is_file() else self.recipe).recipe

    def setting(self) -> "Setting":
        """The setting that the recipe trains with, or the paper's, with what the options say on top.

        Raises:
            RecipeError: the recipe does not hold.
            UsageError: as `amend`.
        """
        from fcos_cli.stats.boxes import Setting

        recipe = self.load_recipe()
        return self.amend(Setting() if recipe is None else Setting.of_recipe(recipe))

    def amend(self, setting: "Setting") -> "Setting":
        """`setting` with what the options say on top.

        Raises:
            UsageError: levels that are no run of levels, a radius that is no number, a short side above the long one.
        """
        from fcos_cli.geometry.pyramid import build_pyramid

        if self.levels is not None:
            try:
                pyramid = build_pyramid(_levels(self.levels), origin=setting.pyramid.origin)
            except ValueError as error:
                raise UsageError(f"--levels {self.levels}: {error}", "such as fpn, p4 or 3,4,5") from None
            setting = replace(setting, pyramid=pyramid)
        if self.center_sampling is not None:
            if not self.center_sampling < float("inf"):
                raise UsageError(f"--center-sampling {self.center_sampling} is not a radius", "1.5 is usual, 0 is off")
            setting = replace(setting, assign=_sampled(setting.assign, self.center_sampling))
        short, long = self.short or setting.short_side, self.long or setting.long_side
        if short > long:
            raise UsageError(
                f"the short side, {short} pixels, is above the long side, {long}", "set both: --short, --long"
            )
        return replace(setting, short_side=short, long_side=long, convention=self.convention)

    def check_files(self, *others: Path | None) -> None:
        """Make sure, before the work, that the files to write can be written. Raises UsageError, SetupError."""
        from fcos_cli.files import check_writable

        for path in (self.plot, *others):
            if path is not None:
                check_writable(path)


def _sampled(assign: "AssignConfig", radius: float) -> "AssignConfig":
    """The assignment with this radius of the centre sampling. Raises UsageError where the method has none."""
    if "center_sampling" not in type(assign).model_fields:
        raise UsageError(
            f'--center-sampling: assign.name = "{assign.name}" has no such key',
            "leave it out, or name a recipe that has (FCOS, the default)",
        )
    return assign.model_copy(update={"center_sampling": radius})


def _levels(text: str) -> list[int]:
    """fpn, p4, 3,4,5 or p3,p4 -> numbers."""
    if text.lower() in NAMED_LEVELS:
        return list(NAMED_LEVELS[text.lower()])
    parts = [re.fullmatch(r"[pP]?(\d+)", part.strip()) for part in text.split(",")]
    if not all(parts):
        raise ValueError("not a list of levels")
    return [int(part[1]) for part in parts if part]


def verb(function: Callable[..., None]) -> Callable[..., None]:
    """A command for Typer of a function (request, its own options): the shared options first, then its own."""
    shared = inspect.signature(Request).parameters
    own = {name: p for name, p in inspect.signature(function).parameters.items() if name != "request"}
    parameters = [p.replace(kind=p.KEYWORD_ONLY) for p in (*shared.values(), *own.values())]

    def run(**given: Any) -> None:
        request = Request(**{name: given.pop(name) for name in shared})
        function(request, **given)

    run.__doc__ = function.__doc__
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__annotations__ = {p.name: p.annotation for p in parameters}
    return run
