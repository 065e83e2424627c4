"""What all pictures share: figures without a display or global state, colours, texts, and the way to a PNG file.

matplotlib is imported on use.
"""

import logging
import textwrap
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from fcos_cli.files import atomic_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Row = Mapping[str, Any]

BLUE, ORANGE, GREEN, GRAY = "#3465a4", "#e07b28", "#4e9a3a", "#8a8f98"
RED, PURPLE = "#b8393b", "#7d5ba6"
PALE_BLUE, PALE_ORANGE, PALE_GRAY = "#a9bfdc", "#f3c9a5", "#d9dce1"
DOTS_PER_INCH = 120
LETTERS_PER_INCH = 10
LONGEST_NAME, LONGEST_LINE = 28, 38


def new_figure(width: float, height: float, title: str = "") -> "Figure":
    """An empty figure of that many inches; a title too long for one line takes several."""
    # Without a writable cache folder matplotlib works all the same, but says so at length.
    logging.getLogger("matplotlib").setLevel(logging.ERROR)
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), dpi=DOTS_PER_INCH, layout="constrained")
    FigureCanvasAgg(figure)
    if title:
        figure.suptitle(textwrap.fill(plain(title, 300), int(width * LETTERS_PER_INCH)), fontsize=12)
    return figure


def save_figure(figure: "Figure", path: str | Path) -> Path:
    """Writes a PNG file, whole or not at all. Returns `path`."""
    with warnings.catch_warnings(), atomic_file(path) as file:
        # A letter that the font lacks becomes a small box.
        warnings.filterwarnings("ignore", message="Glyph")
        figure.savefig(file, format="png")
    return Path(path)


def tidy(axes: "Axes", grid: Literal["both", "x", "y"] = "both") -> None:
    """Leaves a frame of two sides, and a pale grid behind the data."""
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(visible=True, axis=grid, color="#e3e6ea", linewidth=0.7)
    axes.set_axisbelow(True)


def add_legend(axes: "Axes", place: Literal["best", "lower right"] = "best") -> None:
    """A legend without a frame, where there is anything to explain."""
    if axes.get_legend_handles_labels()[1]:
        axes.legend(loc=place, fontsize=9, frameon=False)


def plain(text: str, most: int = LONGEST_NAME) -> str:
    """A text of others for a picture: no longer than `most` letters, on one line, its dollar signs no formulas."""
    text = " ".join(text.split())
    if len(text) > most:
        text = f"{text[: most - 1]}…"
    return text.replace("$", r"\$")


def fold(text: str) -> str:
    """A text in lines of about the same length, 38 letters or so at most."""
    lines = len(text) // LONGEST_LINE + 1
    return textwrap.fill(text, len(text) // lines + 8)


def tick_text(value: float, _: float) -> str:
    """What is written at a tick of an axis: how far from zero it is, unrounded."""
    return f"{abs(value):,.10g}" if abs(value) < 1e6 else f"{abs(value) / 1e6:,.10g}M"


def short(count: float) -> str:
    """A count in at most four letters: 950, 9.5k, 95k, 1.2M."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        # What rounds up to the unit is written with it, not as a thousand of the one below.
        if count >= 0.9995 * unit:
            scaled = count / unit
            return f"{scaled:.1f}".removesuffix(".0") + name if scaled < 9.95 else f"{scaled:.0f}{name}"
    return f"{count:.0f}" if count >= 1 else f"{count:g}"


def say_in(axes: "Axes", text: str) -> None:
    """A sentence in place of data that do not exist."""
    axes.set_axis_off()
    axes.text(0.5, 0.5, text, ha="center", va="center", color=GRAY, fontsize=11, transform=axes.transAxes)
