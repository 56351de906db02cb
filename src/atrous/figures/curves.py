"""Loss, score and learning rate of a run, drawn from its log."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from atrous.errors import ConfigError
from atrous.figures.files import save_figure
from atrous.figures.panels import draw_column, draw_loss, draw_score, mark_sessions
from atrous.figures.style import FAINT, STYLE
from atrous.run import Records, RunFolder, group_records, load_log


def save_loss_curves(run_folder: Path) -> tuple[Path, Path]:
    """Save `curves.png` and `curves.svg` of a run in its folder.

    The same log always gives the same bytes. Non-finite losses leave a gap; dashed lines mark the
    start of later sessions.

    Args:
        run_folder: A run folder with a `log.jsonl`.

    Returns:
        Paths of the PNG and the SVG.

    Raises:
        ConfigError: The folder holds no log.
    """
    records = _load_records(RunFolder(Path(run_folder)).log)
    paths = Path(run_folder) / "curves.png", Path(run_folder) / "curves.svg"
    with matplotlib.rc_context(STYLE):
        figure = build_figure(records, Path(run_folder).resolve().name)
    for path in paths:
        save_figure(figure, path, dpi=150)
    return paths


def build_figure(records: Records, title: str) -> Figure:
    """Draw log records, keyed by kind, over epochs: loss, mIoU and learning rate."""
    figure = Figure(figsize=(9, 6.6), layout="constrained")
    loss_axes, score_axes, rate_axes = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [5, 3, 1.5]}
    )
    loss_axes.set_title(title, loc="left", weight="bold", pad=22)
    train, val = records["train"], records["val"]
    draw_loss(loss_axes, train, val)
    draw_score(score_axes, val)
    draw_column(rate_axes, train, "lr", FAINT)
    rate_axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for axes, label in ((loss_axes, "loss"), (score_axes, "val mIoU"), (rate_axes, "lr")):
        axes.set_ylabel(label)
    rate_axes.set_xlabel("epoch")
    rate_axes.set_ylim(bottom=0)
    if train or val:
        last_epoch = max(record["epoch"] for record in train + val)
        rate_axes.set_xlim(0, 1.01 * last_epoch or 1)
        mark_sessions([loss_axes, score_axes, rate_axes], records)
    figure.align_ylabels()
    return figure


def _load_records(path: Path) -> Records:
    try:
        return group_records(load_log(path))
    except OSError as error:
        raise ConfigError(
            f"The log {path} cannot be read ({error.strerror}), so there are no curves to draw. "
            "Give a run folder, as `atrous train --out` writes it."
        ) from None
