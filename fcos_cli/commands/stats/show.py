"""How the statistics are put into words: figures, ranges, tables, and the CSV file of boxes."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fcos_cli.report import console

if TYPE_CHECKING:
    from fcos_cli.data.records import DetectionData
    from fcos_cli.stats.boxes import NetworkBoxes, Setting

Row = Mapping[str, Any]


def figure(value: float | None) -> str:
    """Counts with thousands set apart, percent to two decimals, nothing where undefined."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.2f}"


def line(label: str, figures: Iterable[Row], key: str) -> tuple[str, ...]:
    """A row of a table: one figure of several results side by side."""
    return (label, *(figure(f[key]) for f in figures))


def level_range(row: Row) -> str:
    """`64 - 128`, of a level's row."""
    upper = "inf" if row["upper"] is None else f"{row['upper']:g}"
    return f"{row['lower']:g} - {upper}"


def describe(setting: "Setting") -> str:
    """Levels, sizes and assignment in a few words."""
    names = setting.pyramid.names
    levels = names[0] if len(names) == 1 else f"{names[0]}-{names[-1]}"
    assign = setting.assign.in_words()
    return f"{levels}, {setting.short_side} x {setting.long_side} pixels" + (f", {assign}" if assign else "")


def about(data: "DetectionData", setting: "Setting", boxes: "NetworkBoxes | None" = None) -> dict[str, Any]:
    """What a JSON result begins with: the data, the setting, and what was left out."""
    return {
        "data": data.name,
        "convention": setting.convention,
        "levels": [level.index for level in setting.pyramid.levels],
        "short_side": setting.short_side,
        "long_side": setting.long_side,
        **setting.assign.facts(),
        **({"dropped": boxes.dropped} if boxes is not None else {}),
    }


def say_dropped(boxes: "NetworkBoxes", setting: "Setting") -> None:
    """One line about the boxes that were left out, and why."""
    if boxes.dropped:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in boxes.dropped.items())
        console.say(f"left out ({setting.convention}): {reasons}")


def write_boxes(path: Path, data: "DetectionData", rows: Sequence[int], reasons: Sequence[str] | None = None) -> None:
    """A CSV file of boxes: their ids, images, classes and places (pixels of the original image), and reasons."""
    import numpy as np

    from fcos_cli.files import atomic_file

    columns = ("box_id", "image_id", "file_name", "class", "x", "y", "width", "height")
    image_of = np.repeat(np.arange(len(data)), np.diff(data.offsets))
    with atomic_file(path, "w") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(columns if reasons is None else (*columns, "reason"))
        for position, row in enumerate(rows):
            image, (x0, y0, x1, y1) = int(image_of[row]), data.boxes[row].tolist()
            place = (f"{value:.6g}" for value in (x0, y0, x1 - x0, y1 - y0))
            name = data.categories.names[data.labels[row]]
            reason = () if reasons is None else (reasons[position],)
            identity = (int(data.box_ids[row]), int(data.image_ids[image]), data.file_names[image], name)
            writer.writerow((*identity, *place, *reason))
