"""Evaluation while training and at its end: figures, the best weights, the pictures."""

import json
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch.distributed as dist

from fcos_cli.data.records import DetectionData
from fcos_cli.evaluation.coco_ap import ClassResult, Evaluation, evaluate
from fcos_cli.files import atomic_file
from fcos_cli.inference.predictor import Failure, Predictor
from fcos_cli.inference.results import concatenate, to_columns
from fcos_cli.model.fcos import FCOS
from fcos_cli.model.saved import save_detector
from fcos_cli.recipe.schema import Recipe
from fcos_cli.report.console import warn
from fcos_cli.training.distributed import World
from fcos_cli.training.log import TrainingLog, read_rows
from fcos_cli.training.runs import RunFolder
from fcos_cli.training.trainer import Trainer

PICTURED_IMAGES = 12


class Validator:
    """Evaluates a training on its validation split and keeps the best weights.

    `best` is the evaluation of the best weights so far (also of the run that is resumed), None before the first one.
    """

    def __init__(self, run: RunFolder, recipe: Recipe, data: DetectionData, here: World, log: TrainingLog) -> None:
        self.run, self.recipe, self.data, self.here, self.log = run, recipe, data, here, log
        self._file = run.evaluation / "best.json"
        self.best = _read(self._file)

    def evaluate(self, trainer: Trainer) -> None:
        """Evaluates the trainer's weights; saves them as `best` where their AP is the highest."""
        results = self._predict(trainer.evaluated, trainer)
        if self.here.main:
            found = evaluate(self.data, results)
            shown = "  ".join(f"{k} {v:.3f}" for k in ("AP", "AP50", "AP75") if (v := found.metrics[k]) is not None)
            self.log.say(f"{self.data.name} at iteration {trainer.iteration}: {shown or 'nothing to find'}")
            for note in found.notes:
                self.log.say(note)
            self.log.row({"iteration": trainer.iteration, **found.metrics})
            ap = found.metrics["AP"] or 0.0
            if ap > trainer.best_ap:
                trainer.best_ap, self.best = ap, found
                self._keep(trainer, found)
        trainer.best_ap = self.here.share(trainer.best_ap)
        trainer.model.train()

    def leave_pictures(self, trainer: Trainer) -> None:
        """Draws the curves of the run, the classes' AP, and detections on validation images beside the truth."""
        from fcos_cli.report import plots
        from fcos_cli.training.pictures import draw_detections

        try:
            plots.plot_training(read_rows(self.run.metrics), self.run.pictures / "training.png")
            if self.best is not None:
                plots.plot_per_class(self.best.per_class, self.run.pictures / "classes.png")
            picture = self.run.pictures / "detections.png"
            draw_detections(trainer.evaluated, self.recipe, self.data, trainer.precision, picture, PICTURED_IMAGES)
        except OSError as error:
            warn(f"the pictures could not be written: {error}")
        else:
            self.log.say(f"pictures: {self.run.pictures}")

    def _predict(self, model: FCOS, trainer: Trainer) -> np.ndarray:
        """Detections of the whole split [K, 7], each process doing its share of the images."""
        share = self.data.subset(np.arange(self.here.rank, len(self.data), self.here.size))
        predictor = Predictor(model, self.recipe.test, precision=trainer.precision.name)
        ids = np.asarray(self.data.categories.ids, dtype=np.int64)
        failed: list[Failure] = []
        results = concatenate([to_columns(found, ids) for found in predictor.run(share, failed)]).as_array()
        for name, reason in failed:
            warn(f"{name} cannot be read, its objects count as missed: {reason}")
        if self.here.size == 1:
            return results
        parts: list[np.ndarray | None] = [None] * self.here.size
        dist.all_gather_object(parts, results)
        return np.concatenate([part for part in parts if part is not None])

    def _keep(self, trainer: Trainer, found: Evaluation) -> None:
        extra = {"iteration": str(trainer.iteration), "metrics": json.dumps(found.metrics)}
        save_detector(self.run.best, trainer.evaluated, self.recipe, self.data.categories, extra)
        with atomic_file(self._file, "w") as file:
            json.dump({"iteration": trainer.iteration, **asdict(found)}, file, indent=2)


def _read(path: Path) -> Evaluation | None:
    """The best evaluation that a resumed run has left."""
    if not path.is_file():
        return None
    stored = json.loads(path.read_text(encoding="utf-8"))
    classes = [ClassResult(*row) for row in stored["per_class"]]
    return Evaluation(stored["metrics"], classes, tuple(stored["notes"]))
