"""The picture that a training ends with: what the detector sees on validation images, beside the truth."""

from pathlib import Path

import numpy as np

from fcos_cli.data.records import DetectionData
from fcos_cli.model.fcos import FCOS
from fcos_cli.recipe.schema import Recipe
from fcos_cli.report.draw import Tile, contact_sheet, save_picture
from fcos_cli.runtime.precision import Precision
from fcos_cli.runtime.predictor import Predictor, UnreadableImage

DRAWN_SCORE = 0.5


def draw_detections(
    model: FCOS, recipe: Recipe, data: DetectionData, precision: Precision, path: Path, images: int
) -> None:
    """Detections above DRAWN_SCORE on images spread evenly over a split, annotations dashed, as one sheet."""
    chosen = np.unique(np.linspace(0, len(data) - 1, min(images, len(data))).round().astype(int))
    shown = data.subset(chosen)
    predictor = Predictor(model, recipe.test, precision=precision.name, threshold=DRAWN_SCORE)
    failed: list[UnreadableImage] = []
    results = sorted(predictor.run(shown, failed), key=lambda result: result.index)
    tiles = [
        Tile(
            pixels=shown.read(result.index),
            boxes=result.boxes,
            labels=result.labels,
            scores=result.scores,
            truth_boxes=shown.boxes[shown.rows(result.index)],
            title=shown.file_names[result.index],
        )
        for result in results
    ]
    if tiles:
        title = f"{data.name}: detections above {DRAWN_SCORE}; annotations dashed"
        save_picture(contact_sheet(tiles, data.categories.names, title=title), path)
