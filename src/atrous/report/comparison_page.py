"""The page of a comparison: verdicts, scores and cost, intervals by class."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from atrous.evaluation import Comparison
from atrous.evaluation.bootstrap import Estimate
from atrous.evaluation.comparison import METHOD
from atrous.report.page import render_page, save_page


@dataclass(frozen=True)
class Axis:
    """A horizontal axis whose places are percent of its width, so that it fits any screen.

    Attributes:
        ticks: Values to mark, all within `low` and `high`.
    """

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Return where a value lies, in percent of the width."""
        return round(100 * (value - self.low) / (self.high - self.low), 3)


def render_comparison_page(comparison: Comparison) -> str:
    """Return a comparison as one HTML file that holds all it shows."""
    return render_page(
        "compare.html",
        comparison=comparison,
        method=METHOD,
        views=comparison.views.describe(),
        cost=comparison.cost,
        score_axis=_build_axis(run.miou for run in comparison.runs),
        panels=[
            {"difference": one, "run": run, "axis": _build_axis([_ZERO, one.miou, *one.iou])}
            for one, run in zip(comparison.differences, comparison.runs[1:], strict=True)
        ],
    )


def save_comparison_page(comparison: Comparison, path: Path) -> None:
    """Write the page of a comparison, whole or not at all.

    Raises:
        AtrousError: The file cannot be written.
    """
    save_page(path, render_comparison_page(comparison))


_ZERO = Estimate(0.0, 0.0, 0.0)


def _build_axis(estimates: Iterable[Estimate | None]) -> Axis:
    values = [
        value
        for estimate in estimates
        if estimate is not None
        for value in (estimate.value, estimate.low, estimate.high)
        if value is not None
    ]
    room = 0.04 * (max(values) - min(values)) or 0.01
    low, high = min(values) - room, max(values) + room
    ticks = MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(low, high)
    return Axis(low, high, tuple(float(tick) for tick in ticks if low <= tick <= high))
