"""`fcos stats boxes`."""

from typing import Any

from fcos_cli.commands.stats.request import Request
from fcos_cli.commands.stats.show import about, describe, figure, level_range, say_dropped
from fcos_cli.report import console

MOST_CLASSES = 10
SPREADS = {
    "boxes_per_image": "boxes an image",
    "side": "side in the image",
    "network_side": "side in the network's input",
    "aspect": "width / height",
    "positives_per_box": "positives a box",
}


def boxes(request: Request) -> None:
    """Counts, sizes, aspect ratios, boxes an image, and how many locations learn each box."""
    from fcos_cli.stats.coverage import cover
    from fcos_cli.stats.summary import summarize

    request.check_files()
    setting = request.setting()
    data = request.open()
    with console.progress("images", len(data)) as step:
        coverage = cover(data, setting, workers=request.workers, step=step)
    summary = summarize(data, coverage)
    if request.plot is not None:
        from fcos_cli.report.stats_plots import plot_boxes

        title = f"{data.name}: {summary['boxes']:,} boxes, {describe(setting)}"
        plot_boxes(coverage.boxes.boxes, summary["by_level"], request.plot, title=title)
    if request.as_json:
        console.print_json({**about(data, setting, coverage.boxes), **summary})
        return
    _show(summary, f"{data.name}, {describe(setting)} ({setting.convention})")
    say_dropped(coverage.boxes, setting)
    if request.plot is not None:
        console.say(f"box sizes and the levels that learn them: {request.plot}")


def _show(summary: dict[str, Any], title: str) -> None:
    counts = ("images", "empty_images", "boxes")
    console.print_table(title, ("", "count"), [(key.replace("_", " "), figure(summary[key])) for key in counts])
    console.print_table(
        "How they spread",
        ("", *SPREADS.values()),
        [(quantile, *(f"{summary[key][quantile]:,.4g}" for key in SPREADS)) for quantile in summary["side"]],
    )
    console.print_table(
        "By level",
        ("level", "range", "boxes learnt here", "positives", "positives a box"),
        [
            (
                row["name"],
                level_range(row),
                figure(row["boxes"]),
                figure(row["positives"]),
                figure(row["positives_per_box"]),
            )
            for row in summary["by_level"]
        ],
    )
    groups = [(row["name"], "", row) for row in summary["by_size"]]
    ranked = sorted(summary["by_class"], key=lambda row: -row["boxes"])
    groups += [(row["name"], figure(row["images"]), row) for row in ranked[:MOST_CLASSES]]
    console.print_table(
        "By size, and the largest classes" if len(ranked) > MOST_CLASSES else "By size and class",
        ("", "images", "boxes", "% of boxes", "positives a box"),
        [
            (name, images, figure(row["boxes"]), figure(row["percent"]), figure(row["positives_per_box"]))
            for name, images, row in groups
        ],
    )
