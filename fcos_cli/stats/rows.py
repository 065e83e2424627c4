"""Rows of figures as the statistics share them: plain values, fit for JSON."""

from math import isinf
from typing import Any

from fcos_cli.stats.boxes import Setting

Row = dict[str, Any]


def level_rows(setting: Setting) -> list[Row]:
    """Name, stride and range of each level; JSON knows no infinity, so no end is None."""
    return [
        {"name": v.name, "stride": v.stride, "lower": v.lower, "upper": None if isinf(v.upper) else v.upper}
        for v in setting.pyramid.levels
    ]


def percent(part: int, whole: int) -> float | None:
    """Percent, unrounded; None of nothing."""
    return 100 * part / whole if whole else None
