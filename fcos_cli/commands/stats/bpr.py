"""`fcos stats bpr`."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fcos_cli.commands.stats.request import Convention, Request
from fcos_cli.commands.stats.show import about, describe, figure, level_range, line, say_dropped, write_boxes
from fcos_cli.errors import UsageError
from fcos_cli.method.fcos.tables import FCOSAssignConfig
from fcos_cli.report import console

if TYPE_CHECKING:
    from fcos_cli.data.records import DetectionData
    from fcos_cli.stats.boxes import Setting
    from fcos_cli.stats.coverage import Coverage
    from fcos_cli.stats.parallel import Step

WORST_CLASSES = 10
LowQuality = Literal["none", "0.4", "all"]
USUAL_RULE: LowQuality = "0.4"


def bpr(
    request: Request,
    detector: Annotated[
        Literal["fcos", "retinanet"],
        typer.Option("--detector", help="fcos: its locations. retinanet: its anchors on the same levels."),
    ] = "fcos",
    low_quality: Annotated[
        LowQuality | None,
        typer.Option(
            "--low-quality",
            help="RetinaNet: also keep each box's best anchors: none of them, those of IoU 0.4 and above (default), "
            "or all.",
            show_default=False,
        ),
    ] = None,
    list_file: Annotated[
        Path | None,
        typer.Option(
            "--list", metavar="FILE", help="Write the boxes that nothing learns to a CSV file.", show_default=False
        ),
    ] = None,
) -> None:
    """Best possible recall: the share of boxes that at least one location is assigned to (the paper's Table 1)."""
    request.check_files(list_file)
    setting = request.setting()
    rule = _rule(request, detector, low_quality)
    if rule is not None:
        setting = replace(setting, assign=FCOSAssignConfig())  # anchors know no centre sampling
    data, covered = _cover(request, setting, rule)
    coverage = covered[setting.convention]
    if list_file is not None:
        write_boxes(list_file, data, coverage.missed.tolist())
    if request.plot is not None:
        from fcos_cli.report.stats_plots import plot_recall_by_side

        title = f"{data.name}: best possible recall {coverage.recall['bpr']:.2f} % ({setting.convention})"
        plot_recall_by_side(coverage.recall["by_side"], request.plot, title=title)
    if request.as_json:
        samples = {"detector": detector, **({"low_quality": rule} if rule else {})}
        console.print_json({**about(data, setting, coverage.boxes), **samples, **coverage.recall})
        return
    _show(data, coverage, list(covered.values()), rule)
    if list_file is not None:
        console.say(f"{len(coverage.missed)} boxes that nothing learns: {list_file}")
    if request.plot is not None:
        console.say(f"recall against side length: {request.plot}")


def _rule(request: Request, detector: str, low_quality: LowQuality | None) -> LowQuality | None:
    """RetinaNet's rule, or None for FCOS."""
    if detector == "fcos":
        if low_quality is not None:
            raise UsageError(
                f"--low-quality {low_quality} is a rule for anchors", "add --detector retinanet, or leave it out"
            )
        return None
    if request.center_sampling:
        raise UsageError("--center-sampling is a rule for locations, RetinaNet has anchors", "leave it out")
    return low_quality or USUAL_RULE


def _cover(
    request: Request, setting: "Setting", rule: LowQuality | None
) -> tuple["DetectionData", dict[str, "Coverage"]]:
    """The data set, and its coverage by convention: both for a person to see, the request's alone for a script."""
    from fcos_cli.stats.boxes import CONVENTIONS
    from fcos_cli.stats.coverage import cover, cover_by_anchors

    def one(convention: Convention, step: "Step") -> "Coverage":
        chosen = replace(setting, convention=convention)
        if rule is None:
            return cover(data, chosen, workers=request.workers, step=step)
        return cover_by_anchors(data, chosen, workers=request.workers, step=step)[rule]

    data = request.open()
    wanted = (setting.convention,) if request.as_json else CONVENTIONS
    with console.progress("images", len(data) * len(wanted)) as step:
        return data, {name: one(name, step) for name in wanted}


def _show(data: "DetectionData", coverage: "Coverage", side_by_side: Sequence["Coverage"], rule: str | None) -> None:
    figures = [c.recall for c in side_by_side]
    sizes = [{row["name"]: row for row in f["by_size"]} for f in figures]
    rows = [
        line("images", figures, "images"),
        line("boxes", figures, "boxes"),
        line("recalled", figures, "recalled"),
        line("best possible recall, %", figures, "bpr"),
    ]
    rows += [line(f"  {name}, %", [by[name] for by in sizes], "bpr") for name in sizes[0]]
    setting = coverage.setting
    samples = f"RetinaNet's anchors, low quality {rule}: " if rule else ""
    console.print_table(
        f"Best possible recall: {data.name}, {samples}{describe(setting)}",
        ("", *(c.setting.convention for c in side_by_side)),
        rows,
    )
    console.print_table(
        f"By level ({setting.convention})",
        ("level", "stride" if rule else "range", "boxes learnt here", "% of boxes", "positives"),
        [
            (
                row["name"],
                row["stride"] if rule else level_range(row),
                figure(row["recalled"]),
                figure(row["percent"]),
                figure(row["positives"]),
            )
            for row in coverage.recall["by_level"]
        ],
    )
    missing = [row for row in coverage.recall["by_class"] if row["recalled"] < row["boxes"]]
    if missing:
        console.print_table(
            f"Classes of lowest recall ({setting.convention})",
            ("class", "boxes", "recalled", "recall %"),
            [
                (row["name"], figure(row["boxes"]), figure(row["recalled"]), figure(row["bpr"]))
                for row in sorted(missing, key=lambda row: row["bpr"])[:WORST_CLASSES]
            ],
        )
    say_dropped(coverage.boxes, setting)
