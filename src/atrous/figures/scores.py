"""Scores per class and by confidence."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from atrous.figures import style
from atrous.fonts import list_families

MAX_CLASSES = 40

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

    Names and scores, 0 to 1, are those of the classes from top to bottom. Classes whose IoU is None
    are left out. Of more than 40 classes the last 40 are shown. The mean is drawn as a line.
    """
    shown = [index for index, score in enumerate(iou) if score is not None][-MAX_CLASSES:]
    places = np.arange(len(shown))
    with matplotlib.rc_context(style.STYLE | {"font.family": list_families(names)}):
        figure, axes = style.build_axes(1.25 + 0.27 * max(len(shown), 2))
        axes.barh(places, _pick(iou, shown), color=style.BLUE, height=0.62, label="IoU")
        axes.axvline(mean, color=style.INK, linestyle=(0, (4, 3)), linewidth=1, zorder=0)
        axes.text(mean, -0.75, f"mIoU {mean:.3f}", ha="center", va="bottom", fontsize=9)
        for label, scores, marker, fill in (
            ("precision", precision, "o", "full"),
            ("recall", recall, "D", "none"),
        ):
            axes.plot(
                _pick(scores, shown), places, marker, fillstyle=fill, label=label, color=style.SOFT,
                markersize=5, clip_on=False,
            )  # fmt: skip
        axes.set_yticks(places, [style.shorten_name(names[index]) for index in shown])
        axes.tick_params(axis="y", length=0, pad=7)  # room for a marker at 0
        axes.set_ylim(max(len(shown), 1) - 0.4, -0.6)
        axes.set_xlim(0, 1)
        axes.grid(axis="y", visible=False)
        if shown:
            figure.legend(loc="outside lower center", ncols=3)
    return figure


def _pick(scores: Sequence[Score], shown: Sequence[int]) -> npt.NDArray[np.float64]:
    return np.array([scores[index] for index in shown], dtype=np.float64)


def build_reliability_diagram(bins: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw accuracy against confidence of the bins of `ConfidenceScores` that have pixels."""
    shown = [one for one in bins if one["pixels"] and one["accuracy"] is not None]
    total = sum(one["pixels"] for one in shown) or 1
    lows = [one["low"] for one in shown]
    widths = [one["high"] - one["low"] for one in shown]
    with matplotlib.rc_context(style.STYLE):
        figure = Figure(figsize=(style.WIDTH_IN, 4.2), layout="constrained")
        axes, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [4, 1]})
        axes.plot([0, 1], [0, 1], color=style.FAINT, linestyle=(0, (4, 3)), linewidth=1)
        axes.bar(
            lows, [one["accuracy"] for one in shown], widths,
            align="edge", color=style.BLUE, alpha=0.25, edgecolor=style.BLUE, linewidth=0.8,
        )  # fmt: skip
        points = [one["confidence"] for one in shown], [one["accuracy"] for one in shown]
        axes.plot(*points, color=style.BLUE, marker="o", markersize=4, clip_on=False)
        axes.set(ylabel="accuracy", ylim=(0, 1))
        shares = [one["pixels"] / total for one in shown]
        below.bar(lows, shares, widths, align="edge", color=style.FAINT)
        below.set(xlim=(0, 1), ylim=(0, 1), yticks=[0, 0.5, 1])
        below.set(xlabel="confidence", ylabel="pixels")
        figure.align_ylabels()
    return figure


def build_risk_coverage(points: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the `risk_coverage` of `ConfidenceScores`: scores by the share of pixels kept."""
    ordered = sorted(points, key=lambda point: point["coverage"])
    coverage = [point["coverage"] for point in ordered]
    with matplotlib.rc_context(style.STYLE):
        figure, axes = style.build_axes(4.2)
        lowest = 1.0
        for key, label, color, marker in (
            ("pixel_accuracy", "pixel accuracy", style.ORANGE, "D"),
            ("miou", "mIoU", style.GREEN, "o"),
        ):
            values = np.array([point[key] for point in ordered], dtype=np.float64)
            axes.plot(
                coverage, values, color=color, marker=marker, markersize=4, label=label,
                clip_on=False,
            )  # fmt: skip
            lowest = min(lowest, np.nanmin(values, initial=1.0))
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.set(
            xlim=(1, min([*coverage, 0.95])),
            ylim=(max(0, np.floor(10 * lowest - 0.5) / 10), 1),
            xlabel="share of pixels kept, most confident first",
            ylabel="score of the pixels kept",
        )
        style.put_legend_above(axes)
    return figure
