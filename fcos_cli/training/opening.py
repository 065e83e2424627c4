"""From what the user asked for to a run folder and its recipe, new or resumed; and a trainer put back where it was."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fcos_cli.errors import RecipeError, UsageError, WeightsError
from fcos_cli.files import atomic_file
from fcos_cli.recipe.load import bundled, load_recipe, to_toml
from fcos_cli.recipe.schema import Recipe
from fcos_cli.runs import RUNS, RunFolder, resumable
from fcos_cli.temporary import sweep
from fcos_cli.training.checkpoint import TrainingState
from fcos_cli.training.log import TrainingLog, evaluated, forget_after
from fcos_cli.training.new_run import create_run
from fcos_cli.training.trainer import Trainer

NEWEST = "newest"
WHICH_RECIPE = "fcos recipe list shows the bundled ones; a first one: fcos train recipes/shapes.toml"


@dataclass(frozen=True)
class TrainingRequest:
    """What the user asked for.

    Attributes:
        recipe: a file or a bundled name; may be missing where a run is resumed.
        overrides: `--set` items.
        run_dir: the run folder to make, or None for `runs/<recipe>-<time>`.
        resume: a run folder, NEWEST, or None for a new run.
        device: "auto", "cpu", "cuda", "cuda:1", ...
    """

    recipe: str | None
    overrides: Sequence[str] = ()
    run_dir: Path | None = None
    resume: str | None = None
    device: str = "auto"


def open_run(request: TrainingRequest, processes: int) -> tuple[RunFolder, Recipe]:
    """The run folder, new or resumed, and its recipe.

    Raises:
        UsageError: no recipe, or no such run.
        RecipeError: a recipe that does not hold, or is not that of the run.
    """
    if request.resume is not None:
        name = load_recipe(request.recipe).name if request.recipe else None
        run = find_run(None if request.resume == NEWEST else request.resume, name)
        stored = load_recipe(str(run.recipe)).recipe
        wanted = load_recipe(request.recipe or str(run.recipe), request.overrides).recipe
        _check_same_model(stored, wanted, run)
        check_batch(wanted, processes)
        return run, wanted
    if request.recipe is None:
        raise UsageError("which recipe?", WHICH_RECIPE)
    loaded = load_recipe(request.recipe, request.overrides)
    check_batch(loaded.recipe, processes)
    return create_run(loaded, request.run_dir), loaded.recipe


def find_run(which: str | None, recipe_name: str | None) -> RunFolder:
    """The run folder that was named, or the newest resumable one (of a recipe, where one is given).

    A run below `runs/` may be given by its name alone.

    Raises:
        UsageError: there is none to resume.
    """
    if which is not None:
        runs = [RunFolder(path) for path in (Path(which).expanduser(), RUNS / which)]
        if run := next((run for run in runs if run.state.is_file()), None):
            return run
        if any(run.recipe.is_file() for run in runs):
            raise UsageError(f"{which} has no checkpoint to resume from", "start again with the same --run-dir")
        is_recipe = which in bundled() and not runs[0].path.is_dir()
        newest = f"the newest run of that recipe: fcos train {which} --resume; " if is_recipe else ""
        raise UsageError(f"{which} is not a run folder", f"{newest}resumable runs: {_names(resumable(lambda _: True))}")
    stem = recipe_name.replace("/", "-") if recipe_name else ""
    runs = resumable(lambda name: not stem or name.startswith(f"{stem}-"))
    if not runs:
        of = f" of the recipe {recipe_name}" if recipe_name else ""
        raise UsageError(
            f"no run{of} to resume under {RUNS}/", f"start one: fcos train {recipe_name or 'recipes/shapes.toml'}"
        )
    return runs[0]


def check_batch(recipe: Recipe, processes: int) -> None:
    """Raises RecipeError where a batch cannot be shared evenly by the processes and their passes."""
    batch, passes = recipe.train.batch_size, recipe.train.accumulate
    parts = processes * passes
    if batch % parts:
        raise RecipeError(
            f"train.batch_size = {batch} does not divide into {processes} processes x {passes} passes",
            f"set it to a multiple of {parts}: --set train.batch_size={parts * -(-batch // parts)}",
        )


def _check_same_model(stored: Recipe, wanted: Recipe, run: RunFolder) -> None:
    if stored.model.model_dump(exclude={"weights"}) != wanted.model.model_dump(exclude={"weights"}):
        raise RecipeError(
            f"the recipe's [model] differs from that of {run.path}",
            f"go on with the run's own recipe: fcos train --resume {run.path}; "
            f"or start anew from its weights: --set model.weights={run.path}",
        )
    if stored.optimizer.name != wanted.optimizer.name:
        raise RecipeError(
            f"optimizer.name = {wanted.optimizer.name!r}, but {run.path} was trained with {stored.optimizer.name!r}",
            f"start anew from its weights: --set model.weights={run.path}",
        )


def resume(trainer: Trainer, state: TrainingState, run: RunFolder, log: TrainingLog) -> None:
    """Puts the trainer where the state says, and the run's files with it.

    Raises:
        UsageError: the run is complete.
        WeightsError: the state does not fit the model.
    """
    total = trainer.recipe.schedule.iterations
    if state.iteration >= total and state.iteration in evaluated(run.metrics):
        raise UsageError(
            f"{run.path} is complete: it has done {state.iteration} of {total} iterations",
            f"train longer: fcos train --resume {run.path} --set schedule.iterations={2 * total}; "
            f"or start a new run from its weights: fcos train RECIPE --set model.weights={run.path}",
        )
    try:
        trainer.restore(state)
    except (RuntimeError, ValueError) as error:
        raise WeightsError(
            f"{run.state} does not fit the model: {error}",
            "has the data set got other classes? Then start a new run from these weights: "
            f"fcos train RECIPE --set model.weights={run.path}",
        ) from error
    trainer.world.barrier()  # all have read the run's files
    if trainer.world.main:
        for folder in (run.path, run.checkpoints, run.evaluation, run.pictures):
            sweep(folder)
        forget_after(run.metrics, state.iteration)
        with atomic_file(run.recipe, "w") as file:  # as it goes on: the next resume needs no --set again
            file.write(to_toml(trainer.recipe))
    log.say(f"resumed at iteration {state.iteration} of {total}")


def _names(runs: list[RunFolder]) -> str:
    return ", ".join(str(run.path) for run in runs[:5]) or "none"
