"""Page of a comparison: conclusions, scores and cost, intervals by class, images."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from matplotlib.ticker import MaxNLocator

from atrous.errors import AtrousError
from atrous.evaluation import RunComparison
from atrous.evaluation.bootstrap import Estimate
from atrous.evaluation.comparison import METHOD
from atrous.evaluation.run_reader import load_evaluated_runs
from atrous.report.gallery import Gallery, build_gallery, check_num_images, choose_most_different
from atrous.report.html import hide_folders, render_page, save_page


@dataclass(frozen=True)
class Axis:
    """A horizontal axis with positions in percent of its width."""

    low: float
    high: float
    ticks: tuple[float, ...]

    def place(self, value: float) -> float:
        """Return the position of a value, in percent of the width."""
        return round(100 * (value - self.low) / (self.high - self.low), 3)


def save_comparison_page(
    comparison: RunComparison, path: Path, *, num_images: int = 3, device: str = "auto"
) -> None:
    """Save a comparison as one HTML file, atomically.

    If images cannot be predicted, because the dataset or weights are missing, the page says why.

    The images whose mIoU differs most between the runs are shown. Raises AtrousError if the file
    cannot be written, or their number is out of range.
    """
    check_num_images(num_images)
    folders = [Path(run.folder) for run in comparison.runs]
    gallery, images_error = _try_images(folders, comparison.split, num_images, device)
    pairs = zip(comparison.differences, comparison.runs[1:], strict=True)
    html = render_page(
        "compare.html",
        comparison=comparison,
        notes=[hide_folders(note, *folders) for note in comparison.notes],
        method=METHOD,
        score_axis=_build_axis(run.miou for run in comparison.runs),
        panels=[(one, run, _build_axis([_ZERO, one.miou, *one.iou])) for one, run in pairs],
        gallery=gallery,
        images_error=images_error,
    )
    save_page(path, html)


def _try_images(
    folders: Sequence[Path], split: str, num_images: int, device: str
) -> tuple[Gallery | None, str]:
    if not num_images:
        return None, "Images were not requested."
    paths = list(folders)
    try:
        runs = load_evaluated_runs(folders, split)
        paths += [Path(run.scores["data"]) for run in runs]
        chosen = choose_most_different(runs, num_images)
        if not chosen:
            return None, "The mIoU of every image is the same in all runs."
        return build_gallery(runs, chosen, device=device), ""
    except AtrousError as error:
        return None, hide_folders(f"Images cannot be shown. {error}", *paths)


_ZERO = Estimate(0.0, 0.0, 0.0)


def _build_axis(estimates: Iterable[Estimate | None]) -> Axis:
    ends = [(one.value, one.low, one.high) for one in estimates if one is not None]
    values = [value for own in ends for value in own if value is not None]
    margin = 0.04 * (max(values) - min(values)) or 0.01
    low, high = min(values) - margin, max(values) + margin
    ticks = MaxNLocator(nbins=4, steps=[1, 2, 5, 10]).tick_values(low, high)
    return Axis(low, high, tuple(float(tick) for tick in ticks if low <= tick <= high))
