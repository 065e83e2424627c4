"""`fcos train`."""

import json
from pathlib import Path
from typing import Annotated

import typer

from fcos_cli.commands.options import DeviceOption, ImageDirOption
from fcos_cli.errors import INTERRUPTED, UsageError
from fcos_cli.report import console


def train(
    recipe: Annotated[
        str | None,
        typer.Argument(
            metavar="RECIPE", help="A recipe file or a bundled name (`fcos recipe list`).", show_default=False
        ),
    ] = None,
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Override a recipe key: train.batch_size=8. Repeatable."),
    ] = None,
    run_dir: Annotated[
        Path | None,
        typer.Option("--run-dir", help="Folder of the run (default: runs/<recipe>-<time>).", show_default=False),
    ] = None,
    resume: Annotated[
        str | None,
        typer.Option("--resume", metavar="[RUN]", help="Go on with a run; without RUN, the newest one of the recipe."),
    ] = None,
    image_dir: ImageDirOption = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="What is left out on reading the data is an error (data.strict).")
    ] = False,
    device: DeviceOption = "auto",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything and do two steps; write nothing.")
    ] = False,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object with the run and its metrics.")
    ] = False,
) -> None:
    """Train a detector, evaluate it, and leave its weights, curves and pictures in a run folder.

    Several GPUs: torchrun --nproc-per-node 8 -m fcos_cli train RECIPE.
    """
    if resume is not None and run_dir is not None:
        raise UsageError("--resume goes on in the run's own folder", "leave --run-dir away")
    if resume is not None and dry_run:
        raise UsageError("--dry-run tries a new training", "leave --resume away")

    from fcos_cli.training.opening import TrainingRequest
    from fcos_cli.training.session import train as run_training
    from fcos_cli.training.trial import dry_run as try_out

    shorthands = [] if image_dir is None else [f"data.image_dir={json.dumps(str(image_dir))}"]
    if strict:
        shorthands.append("data.strict=true")
    request = TrainingRequest(recipe, (*(overrides or ()), *shorthands), run_dir, resume, device)
    if dry_run:
        plan = try_out(request)
        if plan is not None:
            _show_plan(plan, as_json)
        return
    outcome = run_training(request)
    if outcome is None:
        return
    metrics = outcome.evaluation.metrics if outcome.evaluation else None
    if as_json:
        console.print_json(
            {
                "run": str(outcome.run.path),
                "iteration": outcome.iteration,
                "interrupted": outcome.interrupted,
                "seconds": round(outcome.seconds, 1),
                "metrics": metrics,
            }
        )
    if outcome.interrupted:
        console.say(
            f"stopped at iteration {outcome.iteration}; all is saved. Go on: fcos train --resume {outcome.run.path}"
        )
        raise typer.Exit(INTERRUPTED)
    if not as_json and metrics:
        console.print_metrics(metrics, outcome.recipe.published_ap)
        console.say(f"next: fcos predict IMAGES --weights {outcome.run.path} --out preds.json")


def _show_plan(plan: dict[str, object], as_json: bool) -> None:
    if as_json:
        console.print_json(plan)
    else:
        console.print_table("Dry run", ("", "value"), plan.items())
