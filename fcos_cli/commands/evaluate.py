"""`fcos eval`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcos_cli.commands.options import DeviceOption, ImageDirOption
from fcos_cli.errors import DataError, UsageError
from fcos_cli.recipe.schema import Precision
from fcos_cli.report import console

if TYPE_CHECKING:
    from fcos_cli.data.records import DetectionData
    from fcos_cli.evaluation.coco_ap import Evaluation
    from fcos_cli.weights.saved import Detector


def evaluate(
    model: Annotated[
        str | None,
        typer.Argument(
            metavar="WEIGHTS|RUN",
            help="A .safetensors file or a run folder (default: the newest run's best).",
            show_default=False,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="The data set (default: the one of the weights' recipe).", show_default=False),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Its split (default: the recipe's data.val_split, or the only one).", show_default=False),
    ] = None,
    image_dir: ImageDirOption = None,
    predictions: Annotated[
        Path | None,
        typer.Option(help="Evaluate this COCO result list instead of a model.", show_default=False),
    ] = None,
    device: DeviceOption = "auto",
    precision: Annotated[
        Precision | None,
        typer.Option(
            help="auto: bfloat16 where it is fast (default: float32 where the recipe trains in it, else auto).",
            show_default=False,
        ),
    ] = None,
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Images a pass (default: the recipe's test.batch_size).", show_default=False),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Also write the detections, as a COCO result list.", show_default=False)
    ] = None,
    tta: Annotated[
        bool,
        typer.Option("--tta", help="Test-time augmentation: the sizes and the mirroring of the recipe's test.tta."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object with the metrics.")] = False,
) -> None:
    """Evaluate a detector, or a file of predictions, as COCO does: twelve figures, and AP of each class.

    F1 is the best of each class at IoU 0.5, and threshold the score that gives it.
    The thresholds of a detector are stored beside its weights, for
    `fcos predict --threshold auto`.
    """
    if predictions is not None:
        if tta:
            raise UsageError("--tta is about how a model predicts, not about --predictions", "leave --tta away")
        _evaluate_file(model, data, split, predictions, out, as_json)
    else:
        _evaluate_model(model, data, split, image_dir, device, precision, batch_size, tta, out, as_json)


def _evaluate_file(
    model: str | None, data: str | None, split: str | None, predictions: Path, out: Path | None, as_json: bool
) -> None:
    if model is not None:
        raise UsageError("give weights or --predictions, not both", f"fcos eval --predictions {predictions} --data D")
    if data is None:
        raise UsageError("--predictions needs the data set they are for", "add --data (a name, folder or COCO file)")
    if out is not None:
        raise UsageError(f"--out writes detections, and {predictions} holds them already", "leave --out away")

    from fcos_cli.data.sources.opening import open_annotated
    from fcos_cli.evaluation.coco_ap import evaluate as evaluate_results
    from fcos_cli.evaluation.coco_ap import load_results

    results = load_results(predictions)
    truth = open_annotated(data, split)
    evaluation = evaluate_results(truth, results)
    _show(
        evaluation,
        truth,
        list(evaluation.notes),
        {"predictions": str(predictions), "detections": len(results)},
        as_json=as_json,
    )


def _evaluate_model(
    model: str | None,
    data: str | None,
    split: str | None,
    image_dir: Path | None,
    device: str,
    precision: Precision | None,
    batch_size: int | None,
    tta: bool,
    out: Path | None,
    as_json: bool,
) -> None:
    from fcos_cli.data.sources.opening import open_annotated
    from fcos_cli.evaluation.results import write_results
    from fcos_cli.files import check_writable
    from fcos_cli.runs import newest_run
    from fcos_cli.runtime.augmented import passes
    from fcos_cli.runtime.evaluator import evaluate_detector, explain_low
    from fcos_cli.runtime.precision import choose_device, choose_precision
    from fcos_cli.runtime.predictor import UnreadableImage
    from fcos_cli.weights.opening import open_detector

    if out is not None:
        check_writable(out)
    chosen_device = choose_device(device)
    if precision is not None:
        choose_precision(precision, chosen_device, inference=True)
    detector = open_detector(model or newest_run(), say=console.say)
    if precision is None:
        # float32 was asked for and exists everywhere: the same figures as at the end of the training.
        precision = "float32" if detector.recipe.train.precision == "float32" else "auto"
    chosen_precision = choose_precision(precision, chosen_device, inference=True)
    console.say(f"weights: {detector.path}" + ("" if model else " (the newest run's)"))
    wanted = detector.recipe.data
    truth = open_annotated(
        data or wanted.val_dataset or wanted.dataset,
        split,
        preferred=wanted.val_split,
        image_dir=image_dir or (None if data else wanted.image_dir),
        stretch=wanted.stretch_16_bit,
    )
    console.say(f"data: {truth.name}, {len(truth)} images" + ("" if data else " (the recipe's; choose with --data)"))
    console.say(f"{chosen_device}, {chosen_precision.reason}")
    if tta:
        console.say(passes(detector.recipe.test))
    failed: list[UnreadableImage] = []
    with console.progress("evaluating", len(truth)) as step:
        evaluation, results = evaluate_detector(
            detector.model,
            detector.recipe.test,
            detector.categories,
            truth,
            device=chosen_device,
            precision=precision,
            batch_size=batch_size,
            tta=tta,
            failed=failed,
            on_result=lambda result: step(1),
        )
    if len(failed) == len(truth):
        raise DataError(
            f"none of the {len(truth)} images could be read, the first: {failed[0].reason}",
            "do the images lie where the data set says? fcos data check DATA --images",
        )
    if out is not None:
        write_results(out, results)
    if failed:
        console.warn(f"{len(failed)} of {len(truth)} images could not be read; their objects count as missed:")
        for failure in failed:
            console.say(f"  {failure.reason}")
    about = {
        "weights": str(detector.path),
        "device": str(chosen_device),
        "precision": chosen_precision.name,
        "detections": len(results),
        "out": str(out) if out else None,
        "tta": tta,
        "thresholds": _store_thresholds(detector, evaluation, truth, tta),
        "failed": [failure._asdict() for failure in failed],
    }
    published = detector.recipe.published_ap
    _show(evaluation, truth, explain_low(detector, evaluation), about, as_json=as_json, published_ap=published)


def _store_thresholds(detector: "Detector", evaluation: "Evaluation", data: "DetectionData", tta: bool) -> str | None:
    """Writes the thresholds beside the weights and returns the file; where that fails, a warning and None."""
    from fcos_cli.runtime.evaluator import points_of
    from fcos_cli.weights.thresholds import save_thresholds, thresholds_path

    points = points_of(evaluation, detector.categories, data)
    try:
        path = save_thresholds(detector.path, detector.categories, points, data=data.name, images=len(data), tta=tta)
    except OSError as error:
        place = thresholds_path(detector.path, tta=tta)
        console.warn(f"the thresholds are not stored, {place} cannot be written: {error.strerror or error}")
        return None
    if path is None:
        objects = any(row.boxes for row in evaluation.per_class)
        console.say(f"no thresholds are stored: {'no detection met an object' if objects else 'no objects to find'}")
        return None
    console.say(f"thresholds: {path} (for fcos predict --threshold auto{' --tta' * tta})")
    return str(path)


def _show(
    evaluation: "Evaluation",
    data: "DetectionData",
    reasons: list[str],
    about: dict[str, Any],
    *,
    as_json: bool,
    published_ap: float | None = None,
) -> None:
    from fcos_cli.evaluation.thresholds import mean_f1

    if as_json:
        console.print_json(
            {
                "data": data.name,
                "images": len(data),
                **about,
                "metrics": evaluation.metrics,
                "F1": mean_f1(evaluation.operating),
                "per_class": [
                    row._asdict() | point._asdict()
                    for row, point in zip(evaluation.per_class, evaluation.operating, strict=True)
                ],
                "notes": reasons,
            }
        )
    else:
        rows = [
            (row.name, _percent(row.AP), _percent(row.AP50), _percent(point.F1), _score(point.threshold), row.boxes)
            for row, point in zip(evaluation.per_class, evaluation.operating, strict=True)
        ]
        columns = ("class", "AP", "AP50", "best F1", "threshold", "objects")
        console.print_table(f"{data.name}, by class, %", columns, rows)
        console.print_metrics(evaluation.metrics, published_ap)
    for reason in reasons:
        console.warn(reason)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _score(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
