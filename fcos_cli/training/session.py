"""A whole training, from the command's arguments to the run folder: set up or resume, train, evaluate, keep."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from fcos_cli.data.datasets import open_data
from fcos_cli.data.loader import TrainLoader
from fcos_cli.data.records import DetectionData
from fcos_cli.errors import DataError, RecipeError, UsageError, WeightsError
from fcos_cli.evaluation.coco_ap import Evaluation
from fcos_cli.files import atomic_file
from fcos_cli.model.precision import choose_device, choose_precision
from fcos_cli.model.saved import save_detector
from fcos_cli.model.starting import build_model
from fcos_cli.recipe.load import load_recipe, to_toml
from fcos_cli.recipe.schema import Recipe
from fcos_cli.report import console
from fcos_cli.training import validation
from fcos_cli.training.checkpoint import TrainingState, load_state, save_state, unwritable
from fcos_cli.training.distributed import World, world
from fcos_cli.training.interrupt import Interrupt
from fcos_cli.training.log import TrainingLog, duration, evaluated, forget_after
from fcos_cli.training.runs import RunFolder, create_run, discard_run, find_run
from fcos_cli.training.trainer import Trainer, TrainingDivergedError

NEWEST = "newest"
WHICH_RECIPE = "fcos recipe list shows the bundled ones; a first one: fcos train recipes/shapes.toml"


@dataclass(frozen=True)
class Request:
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


@dataclass(frozen=True)
class Outcome:
    """How a training ended. `evaluation` is of the best weights; None where it was interrupted before one."""

    run: RunFolder
    recipe: Recipe
    evaluation: Evaluation | None
    iteration: int
    interrupted: bool
    seconds: float


def train(request: Request) -> Outcome | None:
    """Trains as asked. Returns the outcome on the main process, None on the others.

    Raises:
        FcosError: whatever the user can mend, of the kind that fits.
    """
    started = time.perf_counter()
    with world(choose_device(request.device)) as here, Interrupt() as interrupt:
        run, recipe = here.on_main(lambda: _open_run(request, here.size))
        state = load_state(run.state) if request.resume is not None else None
        log = TrainingLog(run, here.main)
        try:
            trainer, train_data, val_data = prepare(recipe, here, log, state)
        except BaseException:
            if state is None and here.main:
                discard_run(run)
            raise
        if state is not None:
            _resume(trainer, state, run, log)
        log.say(f"run folder: {run.path}")
        if here.main:
            _warn_of_shared_images(train_data, val_data)
        loader = _loader(train_data, recipe, here, trainer.iteration)
        validator = validation.Validator(run, recipe, val_data, here, log)
        try:
            finished = _train(trainer, loader, validator, run, val_data, interrupt)
        except TrainingDivergedError as error:
            if not here.main:  # which tells the user
                raise SystemExit(error.exit_code) from None
            log.note(f"error: {error.message}")
            raise _with_advice(error, run, recipe) from None
        except KeyboardInterrupt:
            if here.main and run.state.is_file():
                console.say(f"stopped at once. Go on from the last checkpoint: fcos train --resume {run.path}")
            raise
        outcome = Outcome(run, recipe, validator.best, trainer.iteration, not finished, time.perf_counter() - started)
        if not finished:
            log.note(f"stopped at iteration {trainer.iteration} by a signal; all is saved")
        if finished and here.main:
            validator.leave_pictures(trainer)
            log.say(f"done in {duration(outcome.seconds)}: {run.path}")
        here.barrier()
        return outcome if here.main else None


def prepare(
    recipe: Recipe, here: World, log: TrainingLog, state: TrainingState | None = None
) -> tuple[Trainer, DetectionData, DetectionData]:
    """Data, model and trainer of a recipe; says what was chosen and why. `state` is what the model will go on from."""
    torch.manual_seed(recipe.train.seed)
    train_data = open_data(recipe.data.dataset, recipe.data.train_split)
    val_data = open_data(recipe.data.val_dataset or recipe.data.dataset, recipe.data.val_split)
    _check_data(train_data, val_data)
    for data in (train_data, val_data):
        counts = f"{len(data)} images, {len(data.boxes)} boxes, {len(data.categories)} classes"
        dropped = ", ".join(f"{count} {reason}" for reason, count in data.dropped.items())
        log.say(f"{data.name}: {counts}" + (f"; left out: {dropped}" if dropped else ""))
    precision = choose_precision(recipe.train.precision, here.device)
    log.say(f"{here.device}, {precision.reason}" + (f"; {here.size} processes" if here.size > 1 else ""))
    model, notes = build_model(recipe, train_data.categories, resumed=state.style if state else None)
    for note in notes:
        log.say(note)
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    count = sum(p.numel() for p in model.parameters())
    log.say(f"{recipe.model.backbone.name}: {count:,} parameters, {trainable:,} of them trained")
    layout = torch.channels_last if recipe.train.channels_last else torch.contiguous_format
    model.to(here.device, memory_format=layout)  # type: ignore[call-overload]
    return Trainer(model, recipe, here, precision, log), train_data, val_data


def dry_run(request: Request) -> dict[str, object] | None:
    """Tries a training without writing anything: loads all, does one step, and tells what the whole would take.

    Returns figures by name on the main process, None on the others.
    """
    if request.recipe is None:
        raise UsageError("which recipe?", WHICH_RECIPE)
    loaded = load_recipe(request.recipe, request.overrides)
    with world(choose_device(request.device)) as here:
        _check_batch(loaded.recipe, here.size)
        trainer, train_data, val_data = prepare(loaded.recipe, here, TrainingLog(None, here.main))
        batches = iter(_loader(train_data, loaded.recipe, here, 0))
        trainer.model.train()
        trainer.step(next(batches))  # the first step also builds what later ones reuse
        trainer.state()
        batch = next(batches)
        started = time.perf_counter()
        trainer.step(batch)
        trainer.state()
        seconds = time.perf_counter() - started
    iterations = loaded.recipe.schedule.iterations
    plan: dict[str, object] = {
        "recipe": loaded.name,
        "device": str(here.device),
        "precision": trainer.precision.name,
        "parameters": sum(p.numel() for p in trainer.model.parameters()),
        "train_images": len(train_data),
        "val_images": len(val_data),
        "classes": len(train_data.categories),
        "batch_size": loaded.recipe.train.batch_size,
        "learning_rate": loaded.recipe.learning_rate,
        "iterations": iterations,
        "epochs": round(iterations * loaded.recipe.train.batch_size / max(1, len(train_data)), 2),
        "seconds_per_iteration": round(seconds, 3),
        "estimated_hours": round(seconds * iterations / 3600, 3),
    }
    if here.device.type == "cuda":
        plan["peak_memory_gib"] = round(torch.cuda.max_memory_allocated(here.device) / 2**30, 2)
    return plan if here.main else None


def _train(
    trainer: Trainer,
    loader: TrainLoader,
    validator: "validation.Validator",
    run: RunFolder,
    data: DetectionData,
    interrupt: Interrupt,
) -> bool:
    """Runs from milestone to milestone: checkpoints and evaluations. Returns False where it was interrupted.

    The state is saved before an evaluation, which may take long or fail: a resumed run makes up for it.
    """
    train, total = trainer.recipe.train, trainer.recipe.schedule.iterations
    batches = iter(loader)
    while True:
        if validator.is_due(trainer.iteration):
            validator.evaluate(trainer)
        if trainer.iteration >= total:
            return True
        until = min(_next(trainer.iteration, every, total) for every in (train.eval_every, train.checkpoint_every))
        whole = trainer.run(batches, until, lambda: interrupt.requested)
        _save(trainer, run, data)
        if not whole:
            return False


def _next(iteration: int, every: int, total: int) -> int:
    return min(total, (iteration // every + 1) * every) if every else total


def _save(trainer: Trainer, run: RunFolder, data: DetectionData) -> None:
    state = trainer.state()
    if trainer.world.main:
        save_state(run.state, state)
        extra = {"iteration": str(trainer.iteration)}
        try:
            save_detector(run.last, trainer.evaluated, trainer.recipe, data.categories, extra)
        except OSError as error:
            raise unwritable(run.last, error, state) from error


def _open_run(request: Request, processes: int) -> tuple[RunFolder, Recipe]:
    """The run folder, new or resumed, and its recipe."""
    if request.resume is not None:
        name = load_recipe(request.recipe).name if request.recipe else None
        run = find_run(None if request.resume == NEWEST else request.resume, name)
        stored = load_recipe(str(run.recipe)).recipe
        wanted = load_recipe(request.recipe or str(run.recipe), request.overrides).recipe
        _check_same_model(stored, wanted, run)
        _check_batch(wanted, processes)
        return run, wanted
    if request.recipe is None:
        raise UsageError("which recipe?", WHICH_RECIPE)
    loaded = load_recipe(request.recipe, request.overrides)
    _check_batch(loaded.recipe, processes)
    return create_run(loaded, request.run_dir), loaded.recipe


def _check_batch(recipe: Recipe, processes: int) -> None:
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


def _resume(trainer: Trainer, state: TrainingState, run: RunFolder, log: TrainingLog) -> None:
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
        forget_after(run.metrics, state.iteration)
        with atomic_file(run.recipe, "w") as file:  # as it goes on: the next resume needs no --set again
            file.write(to_toml(trainer.recipe))
    log.say(f"resumed at iteration {state.iteration} of {total}")


def _loader(data: DetectionData, recipe: Recipe, here: World, start: int) -> TrainLoader:
    batch, seed = recipe.train.batch_size, recipe.train.seed
    return TrainLoader(data, recipe.data, batch_size=batch, seed=seed, start=start, rank=here.rank, world=here.size)


def _check_data(train_data: DetectionData, val_data: DetectionData) -> None:
    for data in (train_data, val_data):
        if not data.annotated:
            raise DataError(
                f"{data.name} has images but no annotations",
                "COCO, Pascal VOC and YOLO layouts are read: fcos data check DATA",
            )
    if train_data.categories != val_data.categories:
        raise DataError(
            f"{train_data.name} and {val_data.name} do not have the same classes",
            "both annotation files must list the same categories, also those without boxes",
        )


def _warn_of_shared_images(train_data: DetectionData, val_data: DetectionData) -> None:
    shared = set(train_data.file_names) & set(val_data.file_names) if train_data.root == val_data.root else set()
    if shared:
        console.warn(f"{len(shared)} of {len(val_data)} validation images are trained on: their AP says little")


def _with_advice(error: TrainingDivergedError, run: RunFolder, recipe: Recipe) -> TrainingDivergedError:
    lower = recipe.optimizer.lr / 2
    advice = [f"a lower rate (--set optimizer.lr={lower:g})"]
    if not recipe.optimizer.clip_norm:
        advice.append("gradient clipping (--set optimizer.clip_norm=10)")
    if recipe.train.precision != "float32":
        advice.append("--set train.precision=float32")
    again = f"fcos train --resume {run.path}" if run.state.is_file() else "start again"
    kept = f"the last good checkpoint is {run.last}; " if run.last.is_file() else ""
    return TrainingDivergedError(
        error.message, f"{kept}{again} with {', or '.join(advice)}; look at the images: fcos data check DATA --images"
    )
