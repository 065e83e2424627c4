"""`fcos stats ambiguity`."""

from dataclasses import replace

from fcos_cli.commands.stats.request import Request
from fcos_cli.commands.stats.show import about, describe, figure, level_range, line, say_dropped
from fcos_cli.report import console

MOST_PAIRS = 10


def ambiguity(request: Request) -> None:
    """Ambiguous locations: the share of positives that lie in several boxes of their level (the paper's Table 2)."""
    from fcos_cli.stats.boxes import CONVENTIONS
    from fcos_cli.stats.coverage import cover

    request.check_files()
    setting = request.setting()
    data = request.open()
    wanted = (setting.convention,) if request.as_json else CONVENTIONS
    with console.progress("images", len(data) * len(wanted)) as step:
        covered = {
            name: cover(data, replace(setting, convention=name), workers=request.workers, step=step) for name in wanted
        }
    coverage = covered[setting.convention]
    ambiguous = coverage.ambiguity
    if request.plot is not None:
        from fcos_cli.report.stats_plots import plot_collisions

        plot_collisions(ambiguous, request.plot, title=f"{data.name}: ambiguous locations ({setting.convention})")
    if request.as_json:
        console.print_json({**about(data, setting, coverage.boxes), **ambiguous})
        return
    figures = [c.ambiguity for c in covered.values()]
    console.print_table(
        f"Ambiguous locations: {data.name}, {describe(setting)}",
        ("", *covered),
        [
            line("positive locations", figures, "positives"),
            line("ambiguous", figures, "ambiguous"),
            line("ambiguous, % of positives", figures, "ambiguous_percent"),
            line("of different classes", figures, "cross_class"),
            line("of different classes, % of positives", figures, "cross_class_percent"),
        ],
    )
    console.print_table(
        f"By level ({setting.convention})",
        ("level", "range", "positives", "ambiguous %", "classes differ %"),
        [
            (
                row["name"],
                level_range(row),
                figure(row["positives"]),
                figure(row["ambiguous_percent"]),
                figure(row["cross_class_percent"]),
            )
            for row in ambiguous["by_level"]
        ],
    )
    if ambiguous["pairs"]:
        console.print_table(
            f"Classes that collide most ({setting.convention})",
            ("learnt: the smaller box's", "lost: the larger box's", "locations", "% of ambiguous"),
            [
                (pair["winner"], pair["loser"], figure(pair["locations"]), figure(pair["percent_of_ambiguous"]))
                for pair in ambiguous["pairs"][:MOST_PAIRS]
            ],
            text_columns=2,
        )
    say_dropped(coverage.boxes, setting)
    if request.plot is not None:
        console.say(f"classes that collide: {request.plot}")
