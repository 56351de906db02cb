"""Loss, score and learning rate of a run, drawn from its log."""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from atrous.errors import ConfigError
from atrous.figures.style import BLUE, FAINT, GREEN, ORANGE, SOFT, STYLE
from atrous.files import write_atomically
from atrous.run import RunFolder, load_log

FloatArray = npt.NDArray[np.float64]
Records = dict[str, list[dict[str, Any]]]

TRAIN, VAL, SCORE = BLUE, ORANGE, GREEN
MOST_POINTS = 2000


def save_loss_curves(run_folder: Path) -> tuple[Path, Path]:
    """Draw `curves.png` and `curves.svg` of a run into its folder.

    The same log always gives the same bytes. Losses that are not finite leave a gap; dashed lines
    mark where a later session took over.

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
            save = partial(
                figure.savefig,
                format=path.suffix[1:],
                dpi=150,
                metadata={"Date": None} if path.suffix == ".svg" else {"Software": None},
            )
            write_atomically(path, save)
    return paths


def build_figure(records: Records, title: str) -> Figure:
    """Draw log records, keyed by kind, over epochs: loss, mIoU and learning rate."""
    figure = Figure(figsize=(9, 6.6), layout="constrained")
    loss_axes, score_axes, rate_axes = figure.subplots(
        3, 1, sharex=True, gridspec_kw={"height_ratios": [5, 3, 1.5]}
    )
    loss_axes.set_title(title, loc="left", weight="bold", pad=22)
    train, val = records["train"], records["val"]
    _draw_loss(loss_axes, train, val)
    _draw_score(score_axes, val)
    _draw_points(rate_axes, train, "lr", FAINT)
    rate_axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    for axes, label in ((loss_axes, "loss"), (score_axes, "val mIoU"), (rate_axes, "lr")):
        axes.set_ylabel(label)
    rate_axes.set_xlabel("epoch")
    rate_axes.set_ylim(bottom=0)
    if train or val:
        last_epoch = max(record["epoch"] for record in train + val)
        rate_axes.set_xlim(0, 1.01 * last_epoch or 1)
        _mark_sessions([loss_axes, score_axes, rate_axes], records)
    figure.align_ylabels()
    return figure


def _load_records(path: Path) -> Records:
    records: Records = defaultdict(list)
    try:
        log = load_log(path)
    except OSError as error:
        raise ConfigError(
            f"There are no curves to draw: the log {path} cannot be read ({error.strerror}). "
            "Give a run folder, as `atrous train --out` makes it."
        ) from None
    for record in log:
        records[record["kind"]].append(record)
    return records


def _column(records: Iterable[dict[str, Any]], key: str) -> FloatArray:
    """Return one value of each record; what is missing or not finite becomes NaN."""
    values = np.array([record.get(key) for record in records], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _thin(*columns: FloatArray) -> list[FloatArray]:
    stride = 1 + len(columns[0]) // MOST_POINTS
    return [column[::stride] for column in columns]


def _smooth(values: FloatArray, window: int) -> FloatArray:
    """Return the centred moving mean of what is finite; NaN stays NaN."""
    finite = np.isfinite(values)
    kernel = np.ones(window)
    sums = np.convolve(np.where(finite, values, 0), kernel, "full")
    counts = np.convolve(finite, kernel, "full")
    centre = slice(window // 2, window // 2 + len(values))
    return np.where(finite, sums[centre] / np.maximum(counts[centre], 1), np.nan)


def _draw_loss(axes: Axes, train: list[dict[str, Any]], val: list[dict[str, Any]]) -> None:
    if not train and not val:
        axes.text(0.5, 0.5, "no step logged yet", transform=axes.transAxes, ha="center")
        return
    shown: list[FloatArray] = []
    if train:
        epochs, raw = _column(train, "epoch"), _column(train, "loss")
        smooth = _smooth(raw, window=1 + 2 * (len(raw) // 80))
        axes.plot(*_thin(epochs, raw), color=TRAIN, alpha=0.25, linewidth=0.8)
        axes.plot(*_thin(epochs, smooth), color=TRAIN, label="train", **_marks(len(raw)))
        shown += [smooth, np.nanpercentile(raw, [99]) if np.isfinite(raw).any() else raw]
    if val:
        _draw_points(axes, val, "loss", VAL, label="val")
        shown.append(_column(val, "loss"))
    axes.legend(loc="lower right", bbox_to_anchor=(1.01, 1.06), ncols=2)
    # A few wild steps at the start must not flatten the rest.
    top = np.nanmax(np.concatenate([*shown, [0.0]]))
    axes.set_ylim(0, 1.08 * top or 1)


def _draw_score(axes: Axes, val: list[dict[str, Any]]) -> None:
    _draw_points(axes, val, "miou", SCORE)
    scores, epochs = _column(val, "miou"), _column(val, "epoch")
    axes.set_ylim(0, 1)
    if not np.isfinite(scores).any():
        return
    best = int(np.nanargmax(scores))
    axes.set_ylim(0, min(1.0, 1.25 * scores[best]) or 1)
    axes.plot(epochs[best], scores[best], "o", color=SCORE, markersize=8, fillstyle="none")
    text = f"best {scores[best]:.3f} at epoch {epochs[best]:.4g}"
    axes.text(0.99, 0.05, text, transform=axes.transAxes, ha="right", color=SCORE)


def _draw_points(
    axes: Axes, records: list[dict[str, Any]], key: str, color: str, label: str | None = None
) -> None:
    epochs, values = _thin(_column(records, "epoch"), _column(records, key))
    axes.plot(epochs, values, color=color, label=label, **_marks(len(values)))


def _marks(num_points: int) -> dict[str, Any]:
    """Return a marker for points that are few enough to be told apart."""
    return {"marker": "o", "markersize": 4 if num_points <= 40 else 2 if num_points <= 120 else 0}


def _mark_sessions(panels: Sequence[Axes], records: Records) -> None:
    """Draw a dashed line where each session but the first began; near ones share a label."""
    points = records["train"] or records["val"]
    starts = [record for record in records["session"] if record.get("event") == "start"][1:]
    places = np.interp(_column(starts, "step"), _column(points, "step"), _column(points, "epoch"))
    label_width = 0.1 * panels[0].get_xlim()[1]
    groups: list[list[int]] = []
    for index, place in enumerate(places):
        for axes in panels:
            axes.axvline(place, color=FAINT, linestyle=(0, (4, 3)), linewidth=0.8)
        if groups and place - places[groups[-1][0]] < label_width:
            groups[-1].append(index)
        else:
            groups.append([index])
    for group in groups:
        first, last = group[0] + 2, group[-1] + 2
        text = f"session {first}" if first == last else f"sessions {first}–{last}"
        above = panels[0].get_xaxis_transform()
        panels[0].text(places[group[0]], 1.02, text, transform=above, fontsize=8, color=SOFT)
