"""`fcos predict`."""

import math
import warnings
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from fcos_cli.commands.options import DeviceOption, PrecisionOption
from fcos_cli.errors import INTERRUPTED, DataError, UsageError
from fcos_cli.report import console

if TYPE_CHECKING:
    from fcos_cli.predict.job import Summary

TOP_CLASSES = 10
AUTO = "auto"


class OutputFormat(StrEnum):
    """`--format`, as `inference.formats` has them."""

    coco = "coco"
    csv = "csv"
    yolo = "yolo"
    voc = "voc"


FOLDERS = (OutputFormat.yolo, OutputFormat.voc)


def predict(
    sources: Annotated[
        list[str],
        typer.Argument(
            metavar="SOURCE", help="Images, folders (searched recursively), 'patterns/*.jpg'; one data set; one video."
        ),
    ],
    out: Annotated[Path, typer.Option(help="The file to write; for --format yolo and voc a folder.")],
    weights: Annotated[
        str | None,
        typer.Option(
            help="A run, a .safetensors file, a published name (fcos weights list), another project's file, a URL, or "
            "hf://owner/repository (default: the newest run's best, else torchvision/fcos_resnet50_fpn).",
            show_default=False,
        ),
    ] = None,
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="SCORE|auto",
            help="Smallest score to report; auto: each class's best, as `fcos eval` stored it (default: all above the "
            "recipe's test.score_threshold; pictures: 0.3).",
            show_default=False,
        ),
    ] = None,
    form: Annotated[
        OutputFormat,
        typer.Option("--format", help="coco: one JSON list; csv: one table; yolo, voc: a file an image."),
    ] = OutputFormat.coco,
    draw: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also write the images with their boxes here.", show_default=False),
    ] = None,
    save_crops: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Also cut the boxes out: a folder a class in here.", show_default=False),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on where an interrupted prediction into the same OUT stopped.")
    ] = False,
    locations: Annotated[
        bool,
        typer.Option(
            "--locations", help="Also write the pyramid level and the location that each detection came from."
        ),
    ] = False,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help="Images a pass (default: the recipe's test.batch_size).", show_default=False),
    ] = None,
    tta: Annotated[
        bool,
        typer.Option("--tta", help="Test-time augmentation: the sizes and the mirroring of the recipe's test.tta."),
    ] = False,
    draft: Annotated[
        bool,
        typer.Option(
            help="Let the JPEG decoder reduce photographs of at least twice the network's size: quicker, and "
            "nearly the same pixels."
        ),
    ] = True,
    split: Annotated[
        str | None, typer.Option(help="Split of the data set, where SOURCE is one.", show_default=False)
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object about what was done.")] = False,
) -> None:
    """Find objects in images and write them as a COCO result list, or in another format.

    Boxes are x, y, width, height in pixels of the original images; csv and voc
    have corners, yolo fractions of the image and each box's confidence.

    Of a data set, its own image and category ids are written. For bare images,
    a file OUT.images.json beside it lists ids, file names and classes.

    With --locations an entry also has "level", 3 for P3, and "location", its x
    and y in pixels of the network input.

    Images that cannot be read are named at the end; the exit code is 3 if none
    could be. Of an animated file (GIF, WebP, APNG) the first frame is taken.

    A video's frames are images whose ids are their numbers, from 0. Videos and
    cameras (/dev/video0, until Ctrl-C) need PyAV: pip install av

    What is done is kept image by image in OUT.partial. Ctrl-C makes OUT of it;
    after that, or a crash, --resume goes on, to the same OUT in the end.
    """
    from PIL import Image

    from fcos_cli.data.sources.files import stretched
    from fcos_cli.data.sources.opening import check_overwriting, open_sources
    from fcos_cli.files import check_writable, sha256_of

    # Images of 90 to 179 million pixels are read; larger ones are refused by name.
    warnings.simplefilter("ignore", Image.DecompressionBombWarning)
    smallest = None if threshold is None or threshold == AUTO else _parse_score(threshold)
    if tta and locations:
        raise UsageError(
            "--locations are pixels of the network input, of which --tta has several an image", "leave one of them away"
        )
    if form in FOLDERS and out.is_file():
        raise UsageError(f"{out} is a file; --format {form.value} writes a folder", "name a folder with --out")
    check_writable(out / "classes.txt" if form in FOLDERS else out)
    folders = [folder for folder in (draw, save_crops) if folder is not None]
    for folder in folders:
        check_writable(folder / "picture.jpg")
    data = open_sources(sources, split, leave_out=folders)
    if not len(data):
        raise DataError(f"{data.name} has no images", "give images, a folder of images or a data set")
    check_overwriting(sources, data, out)

    from fcos_cli.predict.job import predict_to_file
    from fcos_cli.predict.journal import partial_path
    from fcos_cli.predict.pictures import PICTURE_THRESHOLD
    from fcos_cli.runtime.augmented import AugmentedPredictor, passes
    from fcos_cli.runtime.precision import choose_device
    from fcos_cli.runtime.predictor import Predictor
    from fcos_cli.weights.opening import any_detector
    from fcos_cli.weights.thresholds import load_thresholds

    chosen_device = choose_device(device)
    detector = any_detector(weights, say=console.say)
    stored = load_thresholds(detector.path, detector.categories, tta=tta) if threshold == AUTO else None
    if detector.recipe.data.stretch_16_bit:
        data = stretched(data)
    predictor = (AugmentedPredictor if tta else Predictor)(
        detector.model,
        detector.recipe.test,
        device=chosen_device,
        precision=precision,
        batch_size=batch_size,
        threshold=stored.values if stored else smallest,
    )
    console.say(f"{chosen_device}, {predictor.precision.reason}")
    if tta:
        console.say(passes(detector.recipe.test))
    if stored:
        console.say(f"thresholds: {stored.text}")
    partial = partial_path(out, folder=form in FOLDERS)
    if resume != partial.exists():
        console.say(
            f"no {partial} to resume: starting with the first image"
            if resume
            else f"starting again: {partial} of an interrupted prediction is overwritten (--resume would have gone on)"
        )
    total = data.source.expected(data)
    with console.progress("predicting", total or None) as step:
        summary = predict_to_file(
            predictor,
            detector.categories,
            data,
            out,
            format=form.value,
            locations=locations,
            pictures=draw,
            crops=save_crops,
            picture_threshold=PICTURE_THRESHOLD if threshold is None else 0.0,
            resume=resume,
            # Of the content, for --resume: a file of the same name may hold other weights by then.
            settings={"weights": sha256_of(detector.path)[:16]},
            draft=draft,
            step=step,
        )
    _report(summary, out, total)
    if as_json:
        console.print_json(
            {
                "out": str(out),
                "images_file": str(summary.companion) if summary.companion else None,
                "format": form.value,
                "pictures": str(draw) if draw else None,
                "crops": str(save_crops) if save_crops else None,
                "images": summary.images,
                "resumed": summary.resumed,
                "detections": summary.detections,
                "failed": [failure._asdict() for failure in summary.failed],
                "interrupted": summary.interrupted,
                "partial": str(summary.partial) if summary.partial else None,
                "seconds": round(summary.seconds, 3),
                "weights": str(detector.path),
                "device": str(chosen_device),
                "precision": predictor.precision.name,
            }
        )
    else:
        _show(summary, out)
    if summary.interrupted:
        raise typer.Exit(INTERRUPTED)
    if summary.failed and not summary.images:
        raise DataError(f"none of the {total} images could be read", "the reasons stand above")


def _parse_score(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 1:
        raise UsageError(f"--threshold is a score from 0 to 1 or auto, not {text!r}", "for example --threshold 0.5")
    return value


def _report(summary: "Summary", out: Path, total: int) -> None:
    """What the user must know besides the result, on stderr."""
    if summary.interrupted:
        console.warn(f"interrupted: {out} holds the detections of {summary.images} of {total or 'many'} images")
        console.say("go on with the same command and --resume")
    elif summary.resumed:
        console.say(f"resumed: {summary.resumed} images were done before")
    if summary.absent:
        console.warn(f"not written, because the data set has no such class: {', '.join(summary.absent)}")
    if summary.invalid:
        console.warn(f"{summary.invalid} detections were not finite and are left out: these weights have diverged")
    if summary.failed:
        console.warn(f"{len(summary.failed)} of {total} images could not be read:")
        for failure in summary.failed:
            console.say(f"  {failure.reason}")


def _show(summary: "Summary", out: Path) -> None:
    rate = (summary.images - summary.resumed) / summary.seconds if summary.seconds else 0.0
    rows: list[tuple[str, object]] = [
        ("images", summary.images),
        ("detections", summary.detections),
        ("images/s", f"{rate:.1f}"),
    ]
    rows += [(f"  {name}", count) for name, count in summary.per_class[:TOP_CLASSES]]
    if len(summary.per_class) > TOP_CLASSES:
        rows.append(("  other classes", sum(count for _, count in summary.per_class[TOP_CLASSES:])))
    console.print_table(str(out), ("", "count"), rows)
