"""Loss, score, learning rate and throughput of a run, drawn from its log."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from atrous.errors import ConfigError
from atrous.figures.files import save_figure
from atrous.figures.panels import draw_loss, draw_rate, draw_score, draw_throughput, finish_panels
from atrous.figures.style import STYLE, build_axes
from atrous.run import Records, RunFolder, group_records, load_log


def save_loss_curves(run_folder: Path) -> tuple[Path, Path]:
    """Save `curves.png` and `curves.svg` of a run in its folder.

    The same log always gives the same bytes. Non-finite losses leave a gap; dashed lines mark the
    start of later sessions. Raises ConfigError if the folder holds no log.
    """
    log = RunFolder(run_folder).log
    try:
        records = group_records(load_log(log))
    except OSError as error:
        raise ConfigError(
            f"The log {log} cannot be read ({error.strerror}), so there are no curves to draw. "
            "Give a run folder, as `atrous train --out` writes it."
        ) from None
    paths = run_folder / "curves.png", run_folder / "curves.svg"
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(9, 6.6), layout="constrained")
        panels = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": [5, 3, 1.5]})
        panels[0].set_title(run_folder.resolve().name, loc="left", weight="bold", pad=22)
        for draw, axes in zip((draw_loss, draw_score, draw_rate), panels, strict=True):
            draw(axes, records)
        finish_panels(panels, ("loss", "val mIoU", "lr"), records)
        figure.align_ylabels()
    for path in paths:
        save_figure(figure, path, dpi=150)
    return paths


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
