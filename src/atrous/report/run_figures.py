"""Figures of a run, by name, with text alternatives."""

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure

from atrous.evaluation.run_reader import LoadedRun
from atrous.figures import confusion, curves, files, scores
from atrous.report.run_overview import sort_classes

FORMATS = ("png", "svg", "pdf")


class LabelledFigure(NamedTuple):
    """A figure and its text alternative."""

    figure: Figure
    label: str


def build_run_figures(run: LoadedRun) -> dict[str, LabelledFigure]:
    """Build every figure that the files of a run allow."""
    kinds = _build_training_figures, _build_score_figures, _build_confidence_figures
    rows = (row for build in kinds for row in build(run))
    return {name: LabelledFigure(figure, label) for name, figure, label in rows}


def save_run_figures(figures: dict[str, LabelledFigure], folder: Path) -> None:
    """Save each figure as PNG, SVG and PDF; raises AtrousError if a file cannot be written."""
    for name, named in figures.items():
        for format in FORMATS:
            files.save_figure(named.figure, folder / f"{name}.{format}")


def _build_training_figures(run: LoadedRun) -> Iterator[tuple[str, Figure, str]]:
    records = run.records
    train, val = records["train"], records["val"]
    sessions = f"{len(run.starts)} session" + "s" * (len(run.starts) != 1)
    if train or val:
        last = max(record["epoch"] for record in train + val)
        label = f"Training and validation loss over {last:.4g} epochs in {sessions}"
        if train:
            label += f"; the last training loss is {train[-1]['loss']:.3g}"
        if val and val[-1]["loss"] is not None:
            label += f", the last validation loss {val[-1]['loss']:.3g}"
        yield "loss", curves.build_loss_figure(records), label + "."
    if val:
        best = max(val, key=lambda record: record["miou"])
        label = (
            f"mIoU on the validation split in {len(val)} validations; the best is "
            f"{best['miou']:.3f} at epoch {best['epoch']:.4g}."
        )
        yield "validation", curves.build_score_figure(records), label
    if train:
        peak = max(record["lr"] for record in train)
        label = f"Learning rate over the steps; its peak is {peak:.3g}, its end "
        yield "learning-rate", curves.build_rate_figure(records), f"{label}{train[-1]['lr']:.2g}."
        settings = run.recipe.train
        figure = curves.build_throughput_figure(records, settings.batch_size * settings.accumulate)
        yield "throughput", figure, f"Training images per second over {run.step} steps."


def _build_score_figures(run: LoadedRun) -> Iterator[tuple[str, Figure, str]]:
    if not run.scores:
        return
    miou, keys = run.scores["miou"], ("name", "iou", "precision", "recall")
    columns = ([row[key] for row in sort_classes(run.scores)] for key in keys)
    figure = scores.build_class_scores(*columns, mean=miou)
    label = f"IoU, precision and recall of each class; mIoU is {miou:.3f}. See the table."
    yield "class-scores", figure, label
    if run.scores.get("confusion"):
        names = [row["name"] for row in run.scores["per_class"]]
        figure = confusion.build_confusion_map(run.scores["confusion"], names)
        label = "Confusion matrix in percent of the true classes. See the table."
        yield "confusion", figure, label


def _build_confidence_figures(run: LoadedRun) -> Iterator[tuple[str, Figure, str]]:
    confidence = run.scores.get("confidence") or {}
    if any(one["pixels"] for one in confidence.get("bins") or ()):
        label = (
            "Reliability diagram: accuracy against confidence; the expected calibration error is "
            f"{confidence['ece']:.3f}."
        )
        yield "reliability", scores.build_reliability_diagram(confidence["bins"]), label
    if points := confidence.get("risk_coverage"):
        last = min(points, key=lambda point: point["coverage"])
        label = (
            "Risk-coverage curve: mIoU and pixel accuracy of the most confident pixels; mIoU of "
            f"the most confident {last['coverage']:.0%} is {np.float64(last['miou']):.3f}."
        )
        yield "risk-coverage", scores.build_risk_coverage(points), label
