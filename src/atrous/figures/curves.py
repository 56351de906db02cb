"""Loss, score and learning rate of a run, drawn from its log."""

from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

from atrous.errors import ConfigError
from atrous.figures.files import save_figure
from atrous.figures.panels import draw_loss, draw_rate, draw_score, finish_panels
from atrous.figures.style import STYLE
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
    log = RunFolder(Path(run_folder)).log
    try:
        records = group_records(load_log(log))
    except OSError as error:
        raise ConfigError(
            f"The log {log} cannot be read ({error.strerror}), so there are no curves to draw. "
            "Give a run folder, as `atrous train --out` writes it."
        ) from None
    paths = Path(run_folder) / "curves.png", Path(run_folder) / "curves.svg"
    with matplotlib.rc_context(STYLE):
        figure = build_figure(records, Path(run_folder).resolve().name)
    for path in paths:
        save_figure(figure, path, dpi=150)
    return paths


def build_figure(records: Records, title: str) -> Figure:
    """Draw log records, keyed by kind, over epochs: loss, mIoU and learning rate."""
    figure = Figure(figsize=(9, 6.6), layout="constrained")
    panels = figure.subplots(3, 1, sharex=True, gridspec_kw={"height_ratios": [5, 3, 1.5]})
    panels[0].set_title(title, loc="left", weight="bold", pad=22)
    for draw, axes in zip((draw_loss, draw_score, draw_rate), panels, strict=True):
        draw(axes, records)
    finish_panels(panels, ("loss", "val mIoU", "lr"), records)
    figure.align_ylabels()
    return figure
