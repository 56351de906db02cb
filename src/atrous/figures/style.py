"""The looks that all figures share."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, SOFT, FAINT, GRID = "#1d2329", "#5b6068", "#8a8f98", "#e6e8eb"
"""Text, lesser text, axes, and lines behind the data."""

BLUE, ORANGE, GREEN, RED = "#2f6db3", "#d95f0e", "#1b8a5a", "#c0392f"
ON_BLUE = "#fdfdfe"
"""Text on a blue field."""

WIDTH_IN = 4.6
"""Width of a figure that stands in a column of a page: its text stays legible on a phone."""

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
"""What each colour is called on a page, where it differs between light and dark."""


def build_axes(height_in: float, *, width_in: float = WIDTH_IN) -> tuple[Figure, Axes]:
    """Make a figure of one panel; call it within `matplotlib.rc_context(STYLE)`."""
    figure = Figure(figsize=(width_in, height_in), layout="constrained")
    return figure, figure.subplots()


def shorten_name(name: str, most: int = 16) -> str:
    """Cut a class name that is too long for an axis."""
    return name if len(name) <= most else name[: most - 1] + "…"
