"""A whole training, from the command's arguments to the run folder: set up or resume, train, evaluate, keep."""

import logging
import time
from dataclasses import dataclass

from fcos_cli.data.loading.loader import TrainLoader
from fcos_cli.data.records import DetectionData
from fcos_cli.evaluation.coco_ap import Evaluation
from fcos_cli.recipe.schema import Recipe
from fcos_cli.runs import RunFolder
from fcos_cli.runtime.precision import choose_device
from fcos_cli.training.checkpoint import load_state, save_state, unwritable
from fcos_cli.training.distributed import world
from fcos_cli.training.interrupt import Interrupt
from fcos_cli.training.log import TrainingLog, duration
from fcos_cli.training.new_run import discard_run
from fcos_cli.training.opening import TrainingRequest, open_run, resume
from fcos_cli.training.setup import make_loader, prepare
from fcos_cli.training.trainer import Trainer, TrainingDivergedError
from fcos_cli.training.validation import Validator
from fcos_cli.weights.saved import save_detector

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Outcome:
    """How a training ended. `evaluation` is of the best weights; None where it was interrupted before one."""

    run: RunFolder
    recipe: Recipe
    evaluation: Evaluation | None
    iteration: int
    interrupted: bool
    seconds: float


def train(request: TrainingRequest) -> Outcome | None:
    """Trains as asked. Returns the outcome on the main process, None on the others.

    Raises:
        FcosError: whatever the user can mend, of the kind that fits.
    """
    started = time.perf_counter()
    with world(choose_device(request.device)) as here, Interrupt() as interrupt:
        run, recipe = here.on_main(lambda: open_run(request, here.size))
        state = load_state(run.state) if request.resume is not None else None
        log = TrainingLog(run, here.main)
        try:
            trainer, train_data, val_data = prepare(recipe, here, log, state)
        except BaseException:
            if state is None and here.main:
                discard_run(run)
            raise
        if state is not None:
            resume(trainer, state, run, log)
        log.say(f"run folder: {run.path}")
        loader = make_loader(train_data, recipe, here, trainer.iteration)
        validator = Validator(run, recipe, val_data, here, log)
        try:
            finished = _train(trainer, loader, validator, run, val_data, interrupt)
        except TrainingDivergedError as error:
            if not here.main:  # which tells the user
                raise SystemExit(error.exit_code) from None
            log.note(f"error: {error.message}")
            raise _with_advice(error, run, recipe) from None
        except KeyboardInterrupt:
            if here.main and run.state.is_file():
                logger.info("stopped at once. Go on from the last checkpoint: fcos train --resume %s", run.path)
            raise
        outcome = Outcome(run, recipe, validator.best, trainer.iteration, not finished, time.perf_counter() - started)
        if not finished:
            log.note(f"stopped at iteration {trainer.iteration} by a signal; all is saved")
        if finished and here.main:
            validator.leave_pictures(trainer)
            log.say(f"done in {duration(outcome.seconds)}: {run.path}")
        here.barrier()
        return outcome if here.main else None


def _train(
    trainer: Trainer,
    loader: TrainLoader,
    validator: Validator,
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
        whole = trainer.run(batches, until, loader.images_per_epoch, lambda: interrupt.requested)
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
