"""Reliability diagram and risk-coverage curve."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.figure import Figure

from atrous.figures.style import BLUE, FAINT, GREEN, ORANGE, STYLE, WIDTH_IN, put_legend_above


def build_reliability_diagram(bins: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw accuracy against confidence.

    Args:
        bins: Each with `low`, `high`, `confidence`, `accuracy` (0 to 1) and `pixels`; bins
            without pixels are left out.
    """
    shown = [one for one in bins if one["pixels"] and one["accuracy"] is not None]
    total = sum(one["pixels"] for one in shown) or 1
    lows = [one["low"] for one in shown]
    widths = [one["high"] - one["low"] for one in shown]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 4.2), layout="constrained")
        axes, below = figure.subplots(2, 1, sharex=True, gridspec_kw={"height_ratios": [4, 1]})
        axes.plot([0, 1], [0, 1], color=FAINT, linestyle=(0, (4, 3)), linewidth=1)
        axes.bar(
            lows, [one["accuracy"] for one in shown], widths,
            align="edge", color=BLUE, alpha=0.25, edgecolor=BLUE, linewidth=0.8,
        )  # fmt: skip
        points = [one["confidence"] for one in shown], [one["accuracy"] for one in shown]
        axes.plot(*points, color=BLUE, marker="o", markersize=4, clip_on=False)
        axes.set_ylabel("accuracy")
        axes.set_ylim(0, 1)
        shares = [one["pixels"] / total for one in shown]
        below.bar(lows, shares, widths, align="edge", color=FAINT)
        below.set_xlim(0, 1)
        below.set_ylim(0, 1)
        below.set_yticks([0, 0.5, 1])
        below.set_ylabel("pixels")
        below.set_xlabel("confidence")
        figure.align_ylabels()
    return figure


def build_risk_coverage(points: Sequence[Mapping[str, Any]]) -> Figure:
    """Draw the scores without the least confident pixels.

    Args:
        points: Each with `coverage`, the share of pixels kept, `miou` and `pixel_accuracy`.
    """
    ordered = sorted(points, key=lambda point: point["coverage"])
    coverage = [point["coverage"] for point in ordered]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH_IN, 4.2), layout="constrained")
        axes = figure.subplots()
        lowest = 1.0
        for key, label, color, marker in (
            ("pixel_accuracy", "pixel accuracy", ORANGE, "D"),
            ("miou", "mIoU", GREEN, "o"),
        ):
            values = np.array([point[key] for point in ordered], dtype=np.float64)
            axes.plot(
                coverage, values, color=color, marker=marker, markersize=4, label=label,
                clip_on=False,
            )  # fmt: skip
            lowest = min(lowest, np.nanmin(values, initial=1.0))
        axes.set_xlim(1, min([*coverage, 0.95]))
        axes.xaxis.set_major_formatter("{x:.0%}")
        axes.set_ylim(max(0, np.floor(10 * lowest - 0.5) / 10), 1)
        axes.set_xlabel("share of pixels kept, most confident first")
        axes.set_ylabel("score of the pixels kept")
        put_legend_above(axes)
    return figure
