"""`fcos bench train`."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from fcos_cli.commands.options import DeviceOption, KeysOption, PrecisionOption
from fcos_cli.errors import SetupError
from fcos_cli.report import console

if TYPE_CHECKING:
    from fcos_cli.benchmarks.training_step import StepTime

COCO_CLASSES = 80
CUDA_BATCH, CPU_BATCH = 16, 2


def train(
    recipe: Annotated[str, typer.Argument(help="A recipe's name or file; its model gets random weights.")] = "r50",
    batch_size: Annotated[
        int | None,
        typer.Option(min=1, help=f"Images a step (default: {CUDA_BATCH}; {CPU_BATCH} on a CPU).", show_default=False),
    ] = None,
    classes: Annotated[int, typer.Option(min=1, help="Classes of the detector.")] = COCO_CLASSES,
    runs: Annotated[int, typer.Option(min=1, help="Timed steps; the median counts.")] = 10,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    against: Annotated[
        Literal["torchvision"] | None,
        typer.Option(help="Also time torchvision's FCOS R-50 on the same batch.", show_default=False),
    ] = None,
    overrides: KeysOption = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """A training step: images/s, memory, and where the time goes.

    Images and boxes are made up, of the size of the recipe's test images. Data
    loading is not in it: `fcos train` tells how long it waits for data.
    """

    from fcos_cli.benchmarks import training_step as bench
    from fcos_cli.recipe.load import load_recipe
    from fcos_cli.runtime.precision import choose_device, choose_precision
    from fcos_kernels import dispatch

    loaded = load_recipe(recipe, overrides or []).recipe
    chosen = choose_device(device)
    how = choose_precision(precision, chosen)
    dispatch.choose(loaded.train.kernels)
    images = batch_size or (CUDA_BATCH if chosen.type == "cuda" else CPU_BATCH)
    height, width = loaded.test.short_side, loaded.test.long_side
    console.say(f"{chosen}, {how.reason}; {dispatch.reason(chosen)}; {images} x {height}x{width}, {classes} classes")
    batch = bench.made_up_batch(images, height, width, classes)
    with console.progress("steps", None):
        timed = [bench.time_ours(loaded, batch, classes, chosen, how, runs)]
        if against:
            try:
                timed.append(bench.time_torchvision(batch, classes, chosen, how, runs))
            except SetupError as error:
                console.warn(f"{error} ({error.hint}); only ours is measured")
    if as_json:
        console.print_json(_about(timed, str(chosen), how.name, images, (height, width)))
        return
    _show(timed)


def _about(timed: "list[StepTime]", device: str, precision: str, images: int, size: tuple[int, int]) -> dict[str, Any]:
    from dataclasses import asdict

    import torch

    return {
        "device": torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        "torch": torch.__version__,
        "precision": precision,
        "batch_size": images,
        "size": list(size),
        "timed": [asdict(one) for one in timed],
    }


def _show(timed: "list[StepTime]") -> None:
    rows = []
    for one in timed:
        median, fastest, slowest = one.milliseconds
        spread = 100 * (slowest - fastest) / median
        memory = f"{one.peak_memory / 2**30:.2f}"
        rows.append((one.name, f"{median:.1f}", f"{spread:.0f} %", f"{one.images_per_second:.1f}", memory))
    console.print_table("A training step", ("", "ms", "+-", "images/s", "peak GiB"), rows)
    parts = timed[0].parts
    total = sum(parts.values())
    shares = [(name, f"{value:.1f}", f"{100 * value / total:.0f} %") for name, value in parts.items()]
    console.print_table("Where it goes, each part waited for", ("part", "ms", "share"), shares)
