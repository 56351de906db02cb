"""Predictions of several runs on the same images, side by side."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from atrous.evaluation.run_reader import load_run
from atrous.report.gallery import (
    ImageLayers,
    build_evaluated_engine,
    choose_images,
    list_legend,
    open_evaluated_split,
    render_layers,
)

_MAX_SIDE_PX = 400


@dataclass(frozen=True)
class SideBySide:
    """Images with the predictions of every run.

    Attributes:
        names: Names of the runs.
        rows: One row per image, with the layers of each run.
        legend: Name and RGB colour of each class in the images.
    """

    names: tuple[str, ...]
    rows: tuple[tuple[ImageLayers, ...], ...]
    legend: tuple[tuple[str, tuple[int, int, int]], ...]


def build_side_by_side(
    folders: Sequence[Path], *, num_images: int, device: str = "auto"
) -> SideBySide:
    """Predict the best, median and worst images of the first run with every run.

    Args:
        folders: Folders of runs that were evaluated on the same split.
        num_images: Number of images of each rank.
        device: `auto`, `cpu`, `cuda`, …

    Raises:
        ConfigError: A folder is not an evaluated run.
        DataError: The dataset or the counts per image cannot be read.
        WeightsError: The weights cannot be used.
    """
    runs = [load_run(folder) for folder in folders]
    dataset = open_evaluated_split(runs[0])
    indices = {name: index for index, name in enumerate(dataset.names)}
    chosen = [name for picks in choose_images(runs[0], num_images).values() for name, _ in picks]
    samples = [dataset.load(indices[name]) for name in chosen]
    columns = []
    for run in runs:
        engine = build_evaluated_engine(run, dataset, device)
        counts = run.load_image_counts()
        miou = dict(zip(counts.names, counts.compute_miou().tolist(), strict=True))
        columns.append(
            [
                render_layers(engine, sample, miou[sample.name], run.temperature, _MAX_SIDE_PX)
                for sample in samples
            ]
        )
    rows = tuple(zip(*columns, strict=True))
    legend = list_legend([layers for row in rows for layers in row], dataset.classes)
    return SideBySide(tuple(run.name for run in runs), rows, legend)
