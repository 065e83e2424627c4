"""`fcos stats advise`."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from fcos_cli.commands.stats.request import Request
from fcos_cli.commands.stats.show import about, describe, figure, say_dropped, write_boxes
from fcos_cli.report import console

if TYPE_CHECKING:
    from fcos_cli.stats.advice import Advice
    from fcos_cli.stats.boxes import Setting
    from fcos_cli.stats.coverage import LocationCoverage

WORST_CLASSES = 10
USUAL_RECIPE = "r50"


def advise(
    request: Request,
    list_file: Annotated[
        Path | None,
        typer.Option(
            "--list",
            metavar="FILE",
            help="Write the boxes that nothing learns, with the reasons, to a CSV file.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Which boxes can never be learnt and why, what each of a few changes would recover, and the keys to set.

    Every figure is computed on the whole data set. Without --recipe it is about r50.
    """
    from fcos_cli.recipe.schema import Recipe
    from fcos_cli.stats.advice import MOST_CHANGES, MOST_COMBINATIONS, REASONS
    from fcos_cli.stats.advice import advise as compute
    from fcos_cli.stats.coverage import cover

    request.check_files(list_file)
    recipe = request.load_recipe() or Recipe()
    setting = request.setting()
    data = request.open()
    with console.progress("images", len(data) * (1 + MOST_CHANGES + MOST_COMBINATIONS)) as step:

        def covered(chosen: "Setting") -> "LocationCoverage":
            return cover(data, chosen, workers=request.workers, step=step)

        advice = compute(data, recipe, setting, covered)
    if list_file is not None:
        reasons = [REASONS[reason] for reason in advice.reasons.tolist()]
        write_boxes(list_file, data, advice.before.missed.tolist(), reasons)
    if request.plot is not None:
        from fcos_cli.report.stats_plots import plot_advice

        plot_advice(advice.missed, advice.tried, request.plot, title=f"{data.name}, {describe(setting)}")
    if request.as_json:
        figures = {**advice.missed, "tried": advice.tried, "advised": advice.advised}
        console.print_json({**about(data, setting, advice.before.boxes), **figures})
        return
    _show(advice, f"{data.name}, {describe(setting)} ({setting.convention})")
    _conclude(advice, request.recipe or USUAL_RECIPE, request.data)
    say_dropped(advice.before.boxes, setting)
    if list_file is not None:
        console.say(f"{len(advice.reasons)} boxes that nothing learns, with the reasons: {list_file}")
    if request.plot is not None:
        console.say(f"what each change recovers: {request.plot}")


def _show(advice: "Advice", title: str) -> None:
    missed = advice.missed
    count = missed["boxes"]
    reasons = [(row["reason"], figure(row["boxes"]), _share(row["boxes"], count)) for row in missed["by_reason"]]
    console.print_table(
        f"Boxes that can never be learnt: {title}",
        ("", "boxes", "% of boxes"),
        [("all boxes", figure(count), ""), ("missed", figure(missed["missed"]), _share(missed["missed"], count))]
        + [(f"  {reason}", *rest) for reason, *rest in reasons],
    )
    if missed["by_class"]:
        console.print_table(
            "Classes that miss most",
            ("class", "boxes", "missed", "% of the class"),
            [
                (row["name"], figure(row["boxes"]), figure(row["missed"]), figure(row["percent"]))
                for row in missed["by_class"][:WORST_CLASSES]
            ],
        )
    console.print_table(
        "What a change would do",
        ("change", "recovers", "loses", "recall %", "ambiguous %", "locations"),
        [("none", "", "", *_outcome(missed), "x 1")]
        + [
            (
                row["change"],
                figure(row["recovered"]),
                figure(row["lost"]),
                *_outcome(row),
                f"x {row['locations']:.3g}",
            )
            for row in advice.tried
        ],
    )


def _conclude(advice: "Advice", recipe: str, data: str) -> None:
    """The keys to set, and the data, ready to be typed, on stdout."""
    if advice.advised is None:
        console.out.print("No change recovers a tenth of a percent of the boxes: keep the recipe as it is.")
        return
    advised = advice.advised
    console.out.print(
        f"Advice: {advised['change']}. It recovers {advised['gain']:,} more boxes than it loses "
        f"({advised['gain_percent']:.2f} % of all) for {advised['locations']:.3g} times the locations, hence about as "
        f"much more time and memory; ambiguous positives: {figure(advised['ambiguous_percent'])} %, before "
        f"{figure(advice.missed['ambiguous_percent'])} %."
    )
    keys = " ".join(f"--set {shlex.quote(text)}" for text in [*advised["set"], f"data.dataset={data}"])
    console.out.print(f"  fcos train {shlex.quote(recipe)} {keys}", markup=False)


def _outcome(row: dict[str, Any]) -> tuple[str, ...]:
    return figure(row["bpr"]), figure(row["ambiguous_percent"])


def _share(part: int, whole: int) -> str:
    return figure(100 * part / whole)
