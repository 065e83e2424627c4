"""Evaluation while training and at its end: figures, the best weights, the pictures."""

import json
import logging
from dataclasses import asdict
from pathlib import Path

import numpy as np

from fcos_cli.data.records import DetectionData
from fcos_cli.evaluation.coco_ap import ClassResult, Evaluation, evaluate
from fcos_cli.evaluation.detections import concatenate, to_columns
from fcos_cli.evaluation.results import write_results
from fcos_cli.files import atomic_file
from fcos_cli.model.fcos import FCOS
from fcos_cli.recipe.schema import Recipe
from fcos_cli.runs import RunFolder
from fcos_cli.runtime.predictor import Predictor, UnreadableImage
from fcos_cli.training.distributed import World
from fcos_cli.training.log import TrainingLog, evaluated, read_rows
from fcos_cli.training.trainer import Trainer
from fcos_cli.weights.saved import load_detector, save_detector
from fcos_cli.weights.thresholds import save_thresholds

logger = logging.getLogger(__name__)

PICTURED_IMAGES = 12


class Validator:
    """Evaluates a training on its validation split and keeps the best weights.

    `best` is the evaluation of the best weights so far (also of the run that is resumed), None before the first one.
    """

    def __init__(self, run: RunFolder, recipe: Recipe, data: DetectionData, here: World, log: TrainingLog) -> None:
        self.run, self.recipe, self.data, self.here, self.log = run, recipe, data, here, log
        self._file = run.evaluation / "best.json"
        self.best = _read(self._file)
        self._done = here.share(evaluated(run.metrics))

    def is_due(self, iteration: int) -> bool:
        """Whether the recipe wants an evaluation after `iteration` steps (at the end: always) and the run has none."""
        every, total = self.recipe.train.eval_every, self.recipe.schedule.iterations
        wanted = iteration >= total or (every > 0 and iteration > 0 and iteration % every == 0)
        return wanted and iteration not in self._done

    def evaluate(self, trainer: Trainer) -> None:
        """Evaluates the trainer's weights; saves them as `best` where their AP is the highest."""
        results = self._predict(trainer.evaluated, trainer)
        if self.here.main:
            evaluation = evaluate(self.data, results)
            metrics = evaluation.metrics
            shown = "  ".join(f"{k} {v:.3f}" for k in ("AP", "AP50", "AP75") if (v := metrics[k]) is not None)
            self.log.say(f"{self.data.name} at iteration {trainer.iteration}: {shown or 'nothing to find'}")
            for note in evaluation.notes:
                self.log.say(note)
            if self.best is None or (metrics["AP"] or 0.0) > (self.best.metrics["AP"] or 0.0):
                self._keep(trainer, evaluation, results)
                self.best = evaluation
            self.log.row({"iteration": trainer.iteration, **metrics})  # last: it says that all is done
        self._done.add(trainer.iteration)
        self.here.barrier()
        trainer.model.train()

    def leave_pictures(self, trainer: Trainer) -> None:
        """Draws the curves of the run, the classes' AP, and the best weights' detections beside the truth."""
        from fcos_cli.report import plots
        from fcos_cli.training.pictures import draw_detections

        try:
            plots.plot_training(
                read_rows(self.run.metrics), trainer.objective.terms, self.run.pictures / "training.png"
            )
            if self.best is not None:
                plots.plot_per_class(self.best.per_class, self.run.pictures / "classes.png")
            picture = self.run.pictures / "detections.png"
            model = load_detector(self.run.best, self.here.device).model
            draw_detections(model, self.recipe, self.data, trainer.precision, picture, PICTURED_IMAGES)
        except OSError as error:
            logger.warning("the pictures could not be written: %s", error)
        else:
            self.log.say(f"pictures: {self.run.pictures}")

    def _predict(self, model: FCOS, trainer: Trainer) -> np.ndarray:
        """Detections of the whole split [K, 7], each process doing its share of the batches."""
        self.here.same_buffers(model)
        predictor = Predictor(model, self.recipe.test, precision=trainer.precision.name)
        ids = np.asarray(self.data.categories.ids, dtype=np.int64)
        failed: list[UnreadableImage] = []
        detections = predictor.run(self.data, failed, rank=self.here.rank, world=self.here.size)
        results = concatenate([to_columns(result, ids) for result in detections]).as_array()
        for name, reason in failed:
            logger.warning("%s cannot be read, its objects count as missed: %s", name, reason)
        return np.concatenate(self.here.gather(results))

    def _keep(self, trainer: Trainer, evaluation: Evaluation, results: np.ndarray) -> None:
        extra = {"iteration": str(trainer.iteration), "metrics": json.dumps(evaluation.metrics)}
        save_detector(self.run.best, trainer.evaluated, self.recipe, self.data.categories, extra)
        classes, data = self.data.categories, self.data
        save_thresholds(self.run.best, classes, evaluation.operating, data=data.name, images=len(data))
        write_results(self.run.evaluation / "best_predictions.json", results)
        with atomic_file(self._file, "w") as file:
            json.dump({"iteration": trainer.iteration, **asdict(evaluation)}, file, indent=2)


def _read(path: Path) -> Evaluation | None:
    """The best evaluation that a resumed run has left."""
    if not path.is_file():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    classes = [ClassResult(*row) for row in stored["per_class"]]
    return Evaluation(stored["metrics"], classes, tuple(stored["notes"]))
