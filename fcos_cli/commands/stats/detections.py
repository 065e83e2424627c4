"""`fcos stats detections`."""

from pathlib import Path
from typing import Annotated

import typer

from fcos_cli.commands.stats.request import Request
from fcos_cli.commands.stats.show import about, describe, figure, level_range
from fcos_cli.errors import DataError
from fcos_cli.report import console

PAPER = "the paper, COCO val2017: 2.3 % from ambiguous locations, 1.5 % of different classes"


def detections(
    request: Request,
    predictions: Annotated[
        Path,
        typer.Option(
            "--predictions", metavar="FILE", help="What `fcos predict --locations` wrote.", show_default=False
        ),
    ],
    threshold: Annotated[
        float, typer.Option("--threshold", min=0, max=1, help="Leave out detections of a lower score.")
    ] = 0.0,
) -> None:
    """The share of detections that come from ambiguous locations, and from which levels (the paper's section 4.1).

    --recipe is the recipe of the weights that predicted: its sizes of testing count here.
    """
    from fcos_cli.evaluation.results import load_located_results
    from fcos_cli.stats.boxes import Setting
    from fcos_cli.stats.detections import trace

    request.check_files()
    recipe = request.load_recipe()
    setting = request.amend(Setting() if recipe is None else Setting.of_test(recipe))
    data = request.open()
    results, level, location = load_located_results(predictions)
    kept = results[:, 5] >= threshold
    if not kept.any():
        raise DataError(
            f"{predictions} holds no detections" + (f" of score {threshold:g} or above" if threshold else ""),
            "there is nothing to trace; look at the detector first: fcos eval",
        )
    with console.progress("detections", int(kept.sum())) as step:
        figures = trace(data, results[kept], level[kept], location[kept], setting, step)
    if request.plot is not None:
        from fcos_cli.report.stats_plots import plot_detections

        plot_detections(figures["by_level"], request.plot, title=f"{predictions.name} on {data.name}")
    if request.as_json:
        console.print_json({**about(data, setting), **figures})
        return
    console.print_table(
        f"Where detections come from: {predictions.name} on {data.name}, {describe(setting)} ({setting.convention})",
        ("level", "range", "detections", "%", "from a box %", "ambiguous %", "classes differ %"),
        [
            (
                row["name"],
                level_range(row),
                figure(row["detections"]),
                figure(row["percent"]),
                figure(row["positive_percent"]),
                figure(row["ambiguous_percent"]),
                figure(row["cross_class_percent"]),
            )
            for row in figures["by_level"]
        ]
        + [
            (
                "all",
                "",
                figure(figures["detections"]),
                figure(100.0),
                figure(figures["positive_percent"]),
                figure(figures["ambiguous_percent"]),
                figure(figures["cross_class_percent"]),
            )
        ],
    )
    console.say(PAPER)
    if request.plot is not None:
        console.say(f"detections by level: {request.plot}")
