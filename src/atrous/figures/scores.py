"""Scores per class as bars."""

from collections.abc import Sequence

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from atrous.figures.style import BLUE, INK, SOFT, STYLE, build_axes, shorten_name
from atrous.fonts import list_families

MAX_CLASSES = 40
"""Number of classes that a figure shows at most."""

Score = float | None


def build_class_scores(
    names: Sequence[str],
    iou: Sequence[Score],
    precision: Sequence[Score],
    recall: Sequence[Score],
    *,
    mean: float,
) -> Figure:
    """Draw a bar of IoU per class, with precision and recall as markers.

    Classes whose IoU is None are left out. Of more than 40 classes the last 40 are shown.

    Args:
        names: Class names, from top to bottom.
        iou, precision, recall: Scores of each class, 0 to 1.
        mean: mIoU, drawn as a line.
    """
    shown = [index for index, score in enumerate(iou) if score is not None][-MAX_CLASSES:]
    places = np.arange(len(shown))
    with matplotlib.rc_context(STYLE | {"font.family": list_families(names)}):
        figure, axes = build_axes(1.25 + 0.27 * max(len(shown), 2))
        axes.barh(places, _pick(iou, shown), color=BLUE, height=0.62, label="IoU")
        axes.axvline(mean, color=INK, linestyle=(0, (4, 3)), linewidth=1, zorder=0)
        axes.text(mean, -0.75, f"mIoU {mean:.3f}", ha="center", va="bottom", fontsize=9)
        for label, scores, marker, fill in (
            ("precision", precision, "o", "full"),
            ("recall", recall, "D", "none"),
        ):
            axes.plot(
                _pick(scores, shown), places, marker, fillstyle=fill, label=label, color=SOFT,
                markersize=5, clip_on=False,
            )  # fmt: skip
        axes.set_yticks(places, [shorten_name(names[index]) for index in shown])
        axes.tick_params(axis="y", length=0, pad=7)  # room for a marker at 0
        axes.set_ylim(max(len(shown), 1) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.grid(axis="y", visible=False)
        if shown:
            figure.legend(loc="outside lower center", ncols=3)
    return figure


def _pick(scores: Sequence[Score], shown: Sequence[int]) -> npt.NDArray[np.float64]:
    return np.array([scores[index] for index in shown], dtype=np.float64)
