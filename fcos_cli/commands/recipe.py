"""`fcos recipe`: what recipes there are, what they say, whether they hold, and every key they may have."""

from typing import Annotated, Any

import typer

from fcos_cli.commands.columns import print_columns
from fcos_cli.errors import RecipeError, UsageError
from fcos_cli.method.registry import broken_methods
from fcos_cli.recipe import copying, files, keys, load, problems
from fcos_cli.recipe.schema import Recipe
from fcos_cli.report import console

app = typer.Typer(help="List, show, copy and check recipes.", no_args_is_help=True)


def _complete(incomplete: str) -> list[str]:
    return [name for name in files.bundled() if name.startswith(incomplete)]


RecipeName = Annotated[
    str,
    typer.Argument(metavar="RECIPE", help="A recipe file or a bundled name.", autocompletion=_complete),
]
Overrides = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Override a key: train.batch_size=8. VALUE is TOML; a word that is not (norm=gn) is a text. Repeatable.",
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object.")]


@app.command("list")
def list_recipes(as_json: AsJson = False) -> None:
    """The bundled recipes, what each is for, and the paper's AP where it reproduces one."""
    entries: list[dict[str, Any]] = []
    for name, path in files.bundled().items():
        values = files.read_toml(path)
        entries.append(
            {
                "name": name,
                "description": values.get("description", ""),
                "published_ap": values.get("published_ap"),
                "extends": values.get("extends"),
                "path": str(path),
            }
        )
    if as_json:
        console.print_json({"recipes": entries})
        return
    rows = [
        (e["name"], "" if e["published_ap"] is None else f"{e['published_ap']:.1f}", e["description"]) for e in entries
    ]
    print_columns(("recipe", "AP", "what it is"), rows)
    console.say("AP: the paper's, on COCO. Next: fcos recipe show NAME, fcos train NAME")


@app.command()
def show(
    name: RecipeName,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Every key with its value, after extends and --set.")
    ] = False,
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Print a recipe's file, or with --resolved (or --set) every key that holds, as TOML or as JSON."""
    if not (resolved or overrides or as_json):
        typer.echo(files.read_text(files.find_recipe(name)), nl=False)
        return
    loaded = load.load_recipe(name, overrides or ())
    if as_json:
        values = keys.json_value(loaded.recipe.model_dump())
        console.print_json({"name": loaded.name, "source": str(loaded.source), "recipe": values})
    else:
        typer.echo(load.to_toml(loaded.recipe), nl=False)


@app.command()
def copy(
    name: RecipeName,
    destination: Annotated[
        str | None,
        typer.Argument(
            metavar="DEST", help="File, or folder (ends in /, or is one) (default: here).", show_default=False
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite the file that is there.")] = False,
) -> None:
    """Copy a recipe to a file of your own, comments and `extends` kept, to edit it."""
    written = copying.copy_recipe(name, destination, force=force)
    console.say(f"wrote {files.shown(written)}; train it: fcos train {files.shown(written)}")


@app.command()
def check(
    names: Annotated[
        list[str], typer.Argument(metavar="RECIPE", help="Files or bundled names.", autocompletion=_complete)
    ],
    overrides: Overrides = None,
    as_json: AsJson = False,
) -> None:
    """Check recipes: every unknown key, wrong value and contradiction of each. Exit code 2 where one does not hold."""
    results: list[dict[str, Any]] = []
    for name in names:
        wrong: list[str] = []
        try:
            _check_weights(load.load_recipe(name, overrides or ()).recipe)
        except problems.InvalidRecipeError as error:
            wrong = list(error.problems)
            _fail(error, as_json)
        except RecipeError as error:
            wrong = [error.message]
            _fail(error, as_json)
        results.append({"recipe": name, "ok": not wrong, "problems": wrong})
        if not wrong and not as_json:
            typer.echo(f"ok  {name}")
    if as_json:
        console.print_json({"recipes": results})
    if not all(result["ok"] for result in results):
        raise typer.Exit(RecipeError.exit_code)


def _check_weights(recipe: Recipe) -> None:
    """Raises RecipeError where published weights do not fit the backbone; a file is known only when it is opened."""
    from fcos_cli.weights.published import resolve_style

    if not recipe.model.weights:
        resolve_style(recipe.model.backbone)


def _fail(error: RecipeError, as_json: bool) -> None:
    if not as_json:
        console.fail(error.message, error.hint)


@app.command("keys")
def list_keys(
    table: Annotated[
        str | None, typer.Argument(metavar="TABLE", help="A table (train) or a key (train.ema) (default: all).")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Every key with its default, what it allows and what it does: itself a recipe, TOML with comments.

    The keys of other methods than FCOS (assign.name, model.head.name, loss.name) follow as comments, by method.
    """

    def wanted(key: keys.Key) -> bool:
        return table is None or f"{key.name}.".startswith(f"{table}.")

    chosen = [key for key in keys.all_keys().values() if wanted(key)]
    for reason in broken_methods().values():
        console.warn(f"a method is left out: {reason}")
    others = [key for name in keys.other_methods() for key in keys.own_keys(name).values() if wanted(key)]
    if not chosen + others:
        close = problems.nearest_keys(str(table))
        nearest = f"did you mean {' or '.join(close)}? " if close else ""
        raise UsageError(f"there is no table or key {table!r}", f"{nearest}`fcos recipe keys` lists them all")
    if as_json:
        console.print_json({"keys": [key.as_dict() for key in chosen + others]})
    else:
        typer.echo(keys.reference(chosen, others), nl=False)


@app.command(hidden=True)
def weights(as_json: AsJson = False) -> None:
    """Moved: fcos weights list."""
    from fcos_cli.commands.weights.list import list_weights

    list_weights(as_json)
