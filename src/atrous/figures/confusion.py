"""The confusion matrix as a heat map."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
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

    Rows are true classes; those without pixels are empty. Of more than 40 classes, the 40 with the
    most pixels are shown.
    """
    counts = np.asarray(confusion, dtype=np.float64)
    totals = counts.sum(axis=1)
    shown = np.sort(np.argsort(-totals, kind="stable")[:MAX_CLASSES])
    shares = (counts / np.where(totals, totals, 1)[:, None])[np.ix_(shown, shown)]
    size_in = max(3.2, 1.2 + 0.37 * min(len(shown), _MAX_CLASSES_WITH_NUMBERS))
    with matplotlib.rc_context(STYLE | {"font.family": list_families(names)}):
        figure, axes = build_axes(size_in, width_in=size_in + 0.2)
        for row, column in np.argwhere(shares >= _MIN_SHOWN):
            # Opacity instead of a colour map, which suits light and dark pages.
            share, corner = shares[row, column], (column - 0.5, row - 0.5)
            axes.add_patch(Rectangle(corner, 1, 1, facecolor=BLUE, alpha=share, linewidth=0))
            if len(shown) <= _MAX_CLASSES_WITH_NUMBERS:
                axes.text(
                    column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=9,
                    color=ON_BLUE if share >= _MIN_DARK else INK,
                )  # fmt: skip
        labels = [shorten_name(names[index], 14) for index in shown]
        places, borders = range(len(shown)), np.arange(len(shown) + 1) - 0.5
        axes.set_xticks(places, labels, rotation=90)
        axes.set_yticks(places, labels)
        axes.set_xticks(borders, minor=True)
        axes.set_yticks(borders, minor=True)
        axes.set(xlabel="predicted", ylabel="true", aspect="equal")
        axes.set(xlim=(borders[0], borders[-1]), ylim=(borders[-1], borders[0]))
        axes.grid(visible=False)
        axes.grid(which="minor", linewidth=0.6)
        axes.tick_params(which="both", length=0)
        axes.spines[:].set_visible(False)
    return figure
