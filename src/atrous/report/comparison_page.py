"""Page of a comparison: conclusions, scores and cost, intervals by class."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from atrous.evaluation import RunComparison
from atrous.evaluation.bootstrap import Estimate
from atrous.evaluation.comparison import METHOD
from atrous.report.html import render_page, save_page


@dataclass(frozen=True)
class Axis:
    """A horizontal axis with positions in percent of its width.

    Attributes:
        ticks: Tick values, all between `low` and `high`.
    """

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Return the position of a value, in percent of the width."""
        return round(100 * (value - self.low) / (self.high - self.low), 3)


def render_comparison_page(comparison: RunComparison) -> str:
    """Return a comparison as one HTML file."""
    return render_page(
        "compare.html",
        comparison=comparison,
        method=METHOD,
        tta=comparison.tta.describe(),
        cost=comparison.cost,
        score_axis=_build_axis(run.miou for run in comparison.runs),
        panels=[
            {
                "difference": difference,
                "run": run,
                "axis": _build_axis([_ZERO, difference.miou, *difference.iou]),
            }
            for difference, run in zip(comparison.differences, comparison.runs[1:], strict=True)
        ],
    )


def save_comparison_page(comparison: RunComparison, path: Path) -> None:
    """Save the page of a comparison atomically.

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
    margin = 0.04 * (max(values) - min(values)) or 0.01
    low, high = min(values) - margin, max(values) + margin
    ticks = MaxNLocator(nbins=5, steps=[1, 2, 5, 10]).tick_values(low, high)
    return Axis(low, high, tuple(float(tick) for tick in ticks if low <= tick <= high))
