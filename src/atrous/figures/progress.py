"""Loss, score, learning rate and throughput of a run, one figure each."""

from collections.abc import Callable
from functools import partial

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from atrous.figures.panels import draw_loss, draw_rate, draw_score, draw_throughput, finish_panels
from atrous.figures.style import STYLE, build_axes
from atrous.run import Records


def build_loss_figure(records: Records) -> Figure:
    """Draw training and validation loss over epochs, sessions marked."""
    return _build(draw_loss, records, "loss", 3.4)


def build_score_figure(records: Records) -> Figure:
    """Draw mIoU on the validation split over epochs, sessions marked."""
    return _build(draw_score, records, "val mIoU", 3.4)


def build_rate_figure(records: Records) -> Figure:
    """Draw the learning rate over epochs, sessions marked."""
    return _build(draw_rate, records, "learning rate", 2.6)


def build_throughput_figure(records: Records, images_per_step: int) -> Figure:
    """Draw images per second over epochs, per step and smoothed."""
    draw = partial(draw_throughput, images_per_step=images_per_step)
    return _build(draw, records, "images per second", 2.6)


def _build(
    draw: Callable[[Axes, Records], None], records: Records, label: str, height_in: float
) -> Figure:
    with matplotlib.rc_context(STYLE):
        figure, axes = build_axes(height_in)
        draw(axes, records)
        finish_panels([axes], [label], records)
    return figure
