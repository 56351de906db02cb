"""Loss, score, learning rate and throughput of a run, one figure each."""

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from atrous.figures.panels import (
    draw_column,
    draw_loss,
    draw_score,
    get_column,
    mark_sessions,
    smooth,
    thin,
)
from atrous.figures.style import BLUE, FAINT, SOFT, STYLE, build_axes
from atrous.run import Records


def build_loss_figure(records: Records) -> Figure:
    """Draw training and validation loss over epochs, sessions marked."""
    with matplotlib.rc_context(STYLE):
        figure, axes = build_axes(3.4)
        draw_loss(axes, records["train"], records["val"])
        _finish(axes, records, "loss")
    return figure


def build_score_figure(records: Records) -> Figure:
    """Draw mIoU on the validation split over epochs, sessions marked."""
    with matplotlib.rc_context(STYLE):
        figure, axes = build_axes(3.4)
        draw_score(axes, records["val"])
        _finish(axes, records, "val mIoU")
    return figure


def build_rate_figure(records: Records) -> Figure:
    """Draw the learning rate over epochs, sessions marked."""
    with matplotlib.rc_context(STYLE):
        figure, axes = build_axes(2.6)
        draw_column(axes, records["train"], "lr", BLUE)
        axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
        axes.set_ylim(bottom=0)
        _finish(axes, records, "learning rate")
    return figure


def build_throughput_figure(records: Records, images_per_step: int) -> Figure:
    """Draw images per second over epochs, per step and smoothed."""
    train = records["train"]
    with matplotlib.rc_context(STYLE):
        figure, axes = build_axes(2.6)
        step_s = get_column(train, "step_s")
        per_s = np.divide(
            images_per_step, step_s, out=np.full(len(step_s), np.nan), where=step_s > 0
        )
        epochs = get_column(train, "epoch")
        axes.plot(*thin(epochs, per_s), color=FAINT, alpha=0.35, linewidth=0.7)
        if len(per_s):
            axes.plot(*thin(epochs, smooth(per_s)), color=BLUE)
        if np.isfinite(per_s).any():
            axes.set_ylim(0, 1.15 * float(np.nanpercentile(per_s, 99)))
            text = f"median {np.nanmedian(per_s):.3g} images/s"
            place = {"transform": axes.transAxes, "ha": "right", "color": SOFT}
            axes.text(0.99, 0.06, text, **place)  # type: ignore[arg-type]
        _finish(axes, records, "images per second")
    return figure


def _finish(axes: Axes, records: Records, label: str) -> None:
    axes.set_ylabel(label)
    axes.set_xlabel("epoch")
    points = records["train"] + records["val"]
    if points:
        axes.set_xlim(0, 1.01 * max(record["epoch"] for record in points) or 1)
        mark_sessions([axes], records)
