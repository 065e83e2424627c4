"""A detector's precision on a data set: predict, bring the classes together, evaluate."""

from collections.abc import Callable

import numpy as np
import torch

from fcos_cli.data.records import Categories, DetectionData
from fcos_cli.evaluation.categories import UNKNOWN_CATEGORY, match_categories
from fcos_cli.evaluation.coco_ap import Evaluation, evaluate
from fcos_cli.evaluation.detections import ImageResult, concatenate, to_columns
from fcos_cli.evaluation.thresholds import OperatingPoint
from fcos_cli.model.fcos import FCOS
from fcos_cli.recipe.schema import Precision, TestConfig
from fcos_cli.runtime.augmented import AugmentedPredictor
from fcos_cli.runtime.predictor import Predictor, UnreadableImage
from fcos_cli.weights.saved import Detector

# Below this AP50 something is likely wrong, rather than hard.
SUSPICIOUS_AP50 = 0.05


def evaluate_detector(
    model: FCOS,
    test: TestConfig,
    categories: Categories,
    data: DetectionData,
    *,
    device: torch.device | None = None,
    precision: Precision = "auto",
    batch_size: int | None = None,
    tta: bool = False,
    failed: list[UnreadableImage] | None = None,
    on_result: Callable[[ImageResult], None] | None = None,
) -> tuple[Evaluation, np.ndarray]:
    """Predicts on every image of `data` and evaluates as COCO does. The model's training mode is put back at the end.

    Args:
        model: a detector, also one in training.
        test: the recipe's `test`.
        categories: the model's classes, in label order.
        data: an annotated data set; its classes are matched to the model's by name.
        device: where to run; None leaves the model as and where it stands.
        precision: as `choose_precision` takes it.
        batch_size: images a pass; None is the recipe's.
        tta: with the test-time augmentation of `test.tta`.
        failed: gets the images that cannot be read; their objects count as missed.
        on_result: called with each image's detections, for progress and pictures.

    Returns:
        The evaluation, and the detections it is about: float64 [K, 7] rows (image_id, x, y, w, h, score, category_id),
        rounded as `result_writer` writes them, so that an evaluation of the written file gives the same figures.

    Raises:
        DataError: no annotations, classes that the model does not know, an unreadable image where `failed` is None.
    """
    category_ids, _ = match_categories(categories, data)
    kind = AugmentedPredictor if tta else Predictor
    predictor = kind(model, test, device=device, precision=precision, batch_size=batch_size)
    parts = []
    for result in predictor.run(data, failed):
        parts.append(to_columns(result, category_ids))
        if on_result is not None:
            on_result(result)
    results = concatenate(parts).as_array()
    return evaluate(data, results), results


def points_of(evaluation: Evaluation, categories: Categories, data: DetectionData) -> tuple[OperatingPoint, ...]:
    """The best points of the model's classes, in its label order; a class that `data` lacks has none."""
    ids, _ = match_categories(categories, data)
    nowhere = OperatingPoint(None, None, None, None)
    by_id = dict(zip(data.categories.ids, evaluation.operating, strict=True)) | {UNKNOWN_CATEGORY: nowhere}
    return tuple(by_id[category] for category in ids.tolist())


def explain_low(detector: Detector, evaluation: Evaluation) -> list[str]:
    """Likely reasons why a detector's precision is next to nothing or undefined; none where it is neither."""
    ap50 = evaluation.metrics["AP50"]
    reasons = list(evaluation.notes)
    if ap50 is None or ap50 >= SUSPICIOUS_AP50:
        return reasons
    recipe = detector.recipe
    iteration = detector.metadata.get("iteration", "")
    if iteration.isdigit() and int(iteration) < recipe.schedule.iterations // 2:
        reasons.append(f"these weights are from iteration {iteration} of {recipe.schedule.iterations}: train on")
    if recipe.model.backbone.weights:
        reasons.append(
            f"the backbone started from {recipe.model.backbone.weights} in {detector.model.style} style: weights of "
            "the other style ruin the features (see model.backbone.weight_style)"
        )
    reasons.append("look at some images: fcos predict IMAGES --out preds.json --draw pictures")
    return reasons
