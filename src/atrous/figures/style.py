"""The style of all figures."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, SOFT, FAINT, GRID = "#1d2329", "#5b6068", "#8a8f98", "#e6e8eb"
"""Text, secondary text, axes, and grid lines."""

BLUE, ORANGE, GREEN, RED = "#2f6db3", "#d95f0e", "#1b8a5a", "#c0392f"
ON_BLUE = "#fdfdfe"
"""Text on a blue background."""

WIDTH_IN = 4.6
"""Width of a figure in one column of a page, with text that is legible on a phone."""

STYLE: Any = {
    "font.size": 10.0,
    "text.color": INK,
    "text.parse_math": False,  # names of classes and runs are text as they are
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": FAINT,
    "axes.grid": True,
    "grid.color": GRID,
    "axes.axisbelow": True,
    "xtick.color": FAINT,
    "ytick.color": FAINT,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "legend.frameon": False,
    "legend.handlelength": 1.4,
    "svg.hashsalt": "atrous",
}

CSS_VARIABLES = {
    INK: "--ink",
    SOFT: "--soft",
    FAINT: "--faint",
    GRID: "--line",
    BLUE: "--blue",
    ORANGE: "--orange",
    GREEN: "--green",
    RED: "--red",
    ON_BLUE: "--on-blue",
}
"""CSS variable of each colour, which differs between light and dark pages."""


def build_axes(height_in: float, *, width_in: float = WIDTH_IN) -> tuple[Figure, Axes]:
    """Build a figure with one panel; call it within `matplotlib.rc_context(STYLE)`."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    return figure, figure.subplots()


def put_legend_above(axes: Axes) -> None:
    """Put the legend above the axes, where it covers no curve."""
    axes.legend(loc="lower right", bbox_to_anchor=(1.01, 1.06), ncols=2)


def write_above(axes: Axes, text: str, color: str = SOFT) -> None:
    """Write a text above the right end of the axes, where it covers no curve."""
    axes.set_title(text, loc="right", fontsize=10, color=color, pad=24)


def shorten_name(name: str, max_length: int = 16) -> str:
    """Truncate a class name that is too long for an axis."""
    return name if len(name) <= max_length else name[: max_length - 1] + "…"
