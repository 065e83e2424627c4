"""`fcos bench predict`."""

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fcos_cli.commands.options import DeviceOption, KeysOption, PrecisionOption
from fcos_cli.errors import SetupError, UsageError
from fcos_cli.recipe.schema import Precision
from fcos_cli.report import console

if TYPE_CHECKING:
    from fcos_cli.benchmarks.inference import Timing
    from fcos_cli.data.records import DetectionData
    from fcos_cli.runtime.predictor import Predictor

SYNTHETIC = "synthetic"
SYNTHETIC_IMAGES = 8
COCO_CLASSES = 80


def predict(
    weights: Annotated[
        str | None,
        typer.Option(
            help="A run, a file, a published name or an address, as for fcos predict (default: random weights).",
            show_default=False,
        ),
    ] = None,
    recipe: Annotated[str, typer.Option(help="A recipe's name or file, whose model gets random weights.")] = "r50",
    images: Annotated[
        str, typer.Option(metavar="DIR", help=f"Images to read; '{SYNTHETIC}' makes JPEG files of 640 x 470 pixels.")
    ] = SYNTHETIC,
    batch_size: Annotated[str, typer.Option(metavar="N,...", help="Images a pass, each measured.")] = "1",
    runs: Annotated[int, typer.Option(min=1, help="Timed passes of each; the median counts.")] = 3,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    against: Annotated[
        Literal["torchvision"] | None,
        typer.Option(help="Take turns with torchvision's FCOS R-50 in float32, random weights.", show_default=False),
    ] = None,
    overrides: KeysOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Detection: images/s, where the time of an image goes, and memory.

    Images are decoded from files (whole, as with --no-draft) and resized to the
    recipe's test size; images of like shape share a batch. The stages are timed
    one after the other ("nms" is all that follows the network), and the
    pipeline of `fcos predict`, which reads ahead, as a whole.
    Random weights get a class bias that lets about a thousand candidates an
    image through to post-processing.

    At R-50 a CPU of two cores needs about half a minute.
    """
    sizes = _batch_sizes(batch_size)
    with tempfile.TemporaryDirectory() as folder:
        data, predictor, classes = _open(weights, recipe, overrides or [], images, Path(folder), device, precision)
        _measure(data, predictor, classes, sizes, runs, against is not None, as_json)


def _batch_sizes(text: str) -> list[int]:
    try:
        sizes = [int(part) for part in text.split(",")]
    except ValueError:
        sizes = []
    if not sizes or min(sizes) < 1:
        raise UsageError(f"--batch-size {text!r} is not a list of sizes", "such as --batch-size 1,4")
    return sizes


def _open(
    weights: str | None,
    recipe: str,
    overrides: list[str],
    images: str,
    folder: Path,
    device: str,
    precision: Precision,
) -> "tuple[DetectionData, Predictor, int]":
    from fcos_cli.benchmarks import inference as bench
    from fcos_cli.data.sources.files import image_files
    from fcos_cli.data.sources.opening import open_sources
    from fcos_cli.model.fcos import FCOS
    from fcos_cli.recipe.load import load_recipe
    from fcos_cli.runtime.precision import choose_device
    from fcos_cli.runtime.predictor import Predictor
    from fcos_cli.weights.opening import open_detector

    if weights and overrides:
        raise UsageError("--set is for --recipe; weights come with theirs", "leave one of them out")
    chosen = choose_device(device)
    if images == SYNTHETIC:
        bench.write_images(folder, SYNTHETIC_IMAGES)
        data = image_files([str(folder)])
    else:
        data = open_sources([images])
    if weights:
        detector = open_detector(weights, say=console.say)
        model, test = detector.model, detector.recipe.test
        return data, Predictor(model, test, device=chosen, precision=precision), model.num_classes
    loaded = load_recipe(recipe, overrides).recipe
    model = FCOS(loaded.model, COCO_CLASSES)
    bench.busy_weights(model, data, loaded.test)
    return data, Predictor(model, loaded.test, device=chosen, precision=precision), COCO_CLASSES


def _measure(
    data: "DetectionData",
    predictor: "Predictor",
    classes: int,
    sizes: list[int],
    runs: int,
    against: bool,
    as_json: bool,
) -> None:
    from fcos_cli.benchmarks import inference as bench

    test = predictor.test
    about = _machine(predictor)
    console.say(
        f"{about['device']}, {predictor.precision.reason}; short side {test.short_side}, {len(data)} images, "
        f"{about['threads']} threads"
    )
    predictor.batch_size = sizes[-1]
    with console.progress("the whole pipeline", None):
        # First, so that the memory is ours alone.
        rate, memory = bench.whole_run(data, predictor)
    other = None
    if against:
        try:
            other = bench.torchvision_pass(data, predictor, classes)
        except SetupError as error:
            console.warn(f"{error} ({error.hint}); only ours is measured")
    timings: list[Timing] = []
    with console.progress("passes", None):
        for of_a_size in bench.compare(data, predictor, sizes, runs, other):
            timings += of_a_size
    if as_json:
        passes = [
            {**asdict(one), "images_per_second": one.images_per_second, "median": _medians(one)} for one in timings
        ]
        pipeline = {"batch_size": sizes[-1], "images_per_second": rate, "peak_memory": memory}
        console.print_json({"machine": about, "pipeline": pipeline, "timings": passes})
        return
    _show(timings)
    held = f", {memory / 2**30:.2f} GiB at most" if memory else ""
    console.say(f"reading ahead, batch {sizes[-1]}: {rate:.2f} images/s over {len(data)} images{held}")
    console.say(", ".join(f"{key} {value}" for key, value in about.items()))


def _medians(timing: "Timing") -> dict[str, float]:
    return {stage: timing.median(stage) for stage in timing.passes[0]}


def _machine(predictor: "Predictor") -> dict[str, Any]:
    import os

    import torch

    from fcos_kernels.bench.machine import processor

    device = predictor.model.device
    return {
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else str(device),
        "processor": processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
        "precision": predictor.precision.reason,
    }


def _show(timings: "list[Timing]") -> None:
    from fcos_cli.benchmarks.inference import STAGES

    rows = []
    for one in timings:
        stages = [f"{1e3 * one.median(stage):.1f}" if stage in one.passes[0] else "" for stage in STAGES]
        total, spread = one.median("all"), one.spread("all")
        rate = f"{one.images_per_second:.2f}"
        rows.append((one.name, one.batch_size, *stages, f"{1e3 * total:.0f}", f"{100 * spread:.0f} %", rate))
    columns = ("", "batch", *STAGES, "all", "+-", "images/s")
    console.print_table("Milliseconds an image, one stage after the other", columns, rows)
    by_batch: dict[int, dict[str, float]] = {}
    for one in timings:
        by_batch.setdefault(one.batch_size, {})[one.name] = one.median("all")
    for size, taken in by_batch.items():
        if "torchvision" in taken:
            console.say(f"batch {size}: {taken['torchvision'] / taken['fcos']:.2f} times as fast as torchvision")
