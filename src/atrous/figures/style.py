"""The looks that all figures share."""

from typing import Any

INK, SOFT, FAINT, GRID = "#1d2329", "#5b6068", "#8a8f98", "#e6e8eb"
"""Text, lesser text, axes, and lines behind the data."""

BLUE, ORANGE, GREEN, RED = "#2f6db3", "#d95f0e", "#1b8a5a", "#c0392f"

STYLE: Any = {
    "font.size": 10.0,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.titlesize": 10.0,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
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
}
"""What each colour is called on a page, where it differs between light and dark."""
