"""The confusion matrix as a heat map."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from atrous.figures.scores import MAX_CLASSES
from atrous.figures.style import BLUE, INK, ON_BLUE, STYLE, build_axes, shorten_name
from atrous.fonts import list_families

_MIN_SHOWN = 0.005
_MIN_DARK = 0.6
_MAX_CLASSES_WITH_NUMBERS = 24


def build_confusion_map(confusion: npt.ArrayLike, names: Sequence[str]) -> Figure:
    """Draw the confusion matrix in percent of the true classes.

    Rows of classes without pixels are empty. Of more than 40 classes, the 40 with the most pixels
    are shown.

    Args:
        confusion: Pixels, (classes, classes); rows are true, columns predicted classes.
        names: Class names in the order of the rows.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    totals = counts.sum(axis=1)
    shown = np.sort(np.argsort(-totals, kind="stable")[:MAX_CLASSES])
    shares = np.divide(
        counts, totals[:, None], out=np.zeros_like(counts), where=totals[:, None] > 0
    )
    shares = shares[np.ix_(shown, shown)]
    size_in = max(3.2, 1.2 + 0.37 * min(len(shown), _MAX_CLASSES_WITH_NUMBERS))
    with matplotlib.rc_context(STYLE | {"font.family": list_families(names)}):
        figure, axes = build_axes(size_in, width_in=size_in + 0.2)
        for (row, column), share in np.ndenumerate(shares):
            if share >= _MIN_SHOWN:
                _draw_cell(
                    axes, row, column, share, numbers=len(shown) <= _MAX_CLASSES_WITH_NUMBERS
                )
        labels = [shorten_name(names[index], 14) for index in shown]
        places = range(len(shown))
        axes.set_xticks(places, labels, rotation=90)
        axes.set_yticks(places, labels)
        axes.set_xlabel("predicted")
        axes.set_ylabel("true")
        axes.set_xlim(-0.5, len(shown) - 0.5)
        axes.set_ylim(len(shown) - 0.5, -0.5)
        axes.set_aspect("equal")
        axes.grid(visible=False)
        axes.tick_params(length=0)
        axes.set_xticks(np.arange(len(shown) + 1) - 0.5, minor=True)
        axes.set_yticks(np.arange(len(shown) + 1) - 0.5, minor=True)
        axes.grid(which="minor", linewidth=0.6)
        axes.tick_params(which="minor", length=0)
        axes.spines[:].set_visible(False)
    return figure


def _draw_cell(axes: Axes, row: int, column: int, share: float, *, numbers: bool) -> None:
    # Opacity instead of a colour map, which suits light and dark pages.
    cell = Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=BLUE, alpha=share, linewidth=0)
    axes.add_patch(cell)
    if numbers:
        color = ON_BLUE if share >= _MIN_DARK else INK
        text = f"{100 * share:.0f}"
        axes.text(column, row, text, ha="center", va="center", fontsize=9, color=color)
