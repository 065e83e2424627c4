"""`fcos stats tables`."""

from dataclasses import replace
from typing import TYPE_CHECKING

from fcos_cli.commands.stats.request import Request
from fcos_cli.commands.stats.show import describe, figure
from fcos_cli.errors import UsageError
from fcos_cli.method.fcos.tables import FCOSAssignConfig
from fcos_cli.report import console

if TYPE_CHECKING:
    from fcos_cli.stats.tables import Tables

LABELS = {
    "table1": {
        "retinanet_none": "RetinaNet, no low-quality matches",
        "retinanet_0.4": "RetinaNet, those of IoU 0.4 and above",
        "retinanet_all": "RetinaNet, all of them",
        "fcos_p4": "FCOS, P4 alone",
        "fcos_fpn": "FCOS, {levels}",
    },
    "table2": {
        "p4_all": "P4 alone",
        "p4_cross": "P4 alone, of different classes",
        "fpn_all": "{levels}",
        "fpn_cross": "{levels}, of different classes",
    },
}
TITLES = {"table1": "Table 1: best possible recall, %", "table2": "Table 2: ambiguous locations, % of positives"}


def tables(request: Request) -> None:
    """The paper's Table 1 (best possible recall) and Table 2 (ambiguous locations), for your data.

    On COCO val2017 the paper's own figures stand beside them.
    """
    from fcos_cli.stats.boxes import CONVENTIONS
    from fcos_cli.stats.tables import PASSES, PUBLISHED, compute_tables, is_the_papers

    request.check_files()
    setting = request.setting()
    if not isinstance(setting.assign, FCOSAssignConfig):
        raise UsageError(
            f'the paper\'s tables are of FCOS and RetinaNet, not of assign.name = "{setting.assign.name}"',
            "its own figures: fcos stats bpr --recipe RECIPE, fcos stats ambiguity --recipe RECIPE",
        )
    data = request.open()
    wanted = (setting.convention,) if request.as_json else CONVENTIONS
    with console.progress("images", len(data) * len(wanted) * PASSES) as step:
        computed: dict[str, Tables] = {
            name: compute_tables(data, replace(setting, convention=name), workers=request.workers, step=step)
            for name in wanted
        }
    published = {"published": PUBLISHED} if is_the_papers(data, setting) else {}
    columns: dict[str, Tables] = {**published, **computed}
    levels = describe(setting).split(",")[0]
    labels = {name: {key: label.format(levels=levels) for key, label in rows.items()} for name, rows in LABELS.items()}
    if request.plot is not None:
        from fcos_cli.report.stats_plots import plot_tables

        plot_tables(columns, labels, request.plot, titles=TITLES)
    if request.as_json:
        console.print_json(computed[setting.convention])
        return
    for name, rows in labels.items():
        console.print_table(
            f"{TITLES[name]}: {data.name}, {describe(setting)}",
            ("", *columns),
            [(label, *(figure(column[name][key]) for column in columns.values())) for key, label in rows.items()],
        )
    if request.plot is not None:
        console.say(f"both tables as bars: {request.plot}")
