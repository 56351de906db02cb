"""The same pictures as several runs see them, next to each other."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atrous.evaluation import load_image_counts
from atrous.report.loaded_run import load_run
from atrous.report.pictures import (
    PictureViews,
    build_scored_engine,
    choose_pictures,
    list_legend,
    open_scored_data,
    render_views,
)

_LARGEST_PX = 400


@dataclass(frozen=True)
class SideBySide:
    """Some pictures, each as every run sees it.

    Attributes:
        names: The runs.
        rows: A row per picture, in it the views of each run.
        legend: Name and RGB colour of each class that is seen in them.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[PictureViews, ...], ...]
    legend: tuple[tuple[str, tuple[int, int, int]], ...]


def build_side_by_side(
    folders: Sequence[Path], *, num_pictures: int, device: str = "auto"
) -> SideBySide:
    """Predict the best, median and worst pictures of the first run with every run.

    Args:
        folders: Folders of runs that were evaluated on the same split.
        num_pictures: How many of each rank.
        device: `auto`, `cpu`, `cuda`, …

    Raises:
        ConfigError: A folder is no evaluated run.
        DataError: The data is gone, or counts per picture cannot be read.
        WeightsError: Weights cannot be used.
    """
    runs = [load_run(folder) for folder in folders]
    dataset = open_scored_data(runs[0])
    places = {name: index for index, name in enumerate(dataset.names)}
    picked = [
        name for picks in choose_pictures(runs[0], num_pictures).values() for name, _ in picks
    ]
    samples = [dataset.load(places[name]) for name in picked]
    columns = []
    for run in runs:
        engine = build_scored_engine(run, dataset, device)
        counts = load_image_counts(run.counts_path, len(run.scores["per_class"]))
        miou = dict(zip(counts.names, counts.compute_miou().tolist(), strict=True))
        columns.append(
            [
                render_views(
                    engine, sample, miou[sample.name], run.temperature, largest_px=_LARGEST_PX
                )
                for sample in samples
            ]
        )
    rows = tuple(zip(*columns, strict=True))
    legend = list_legend([views for row in rows for views in row], dataset.classes)
    return SideBySide(tuple(run.name for run in runs), rows, legend)
