"""Panels of training curves, drawn from the records of a run's log."""

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from atrous.figures.style import BLUE, FAINT, GREEN, ORANGE, SOFT, put_legend_above, write_above
from atrous.run import Records

FloatArray = npt.NDArray[np.float64]

MAX_POINTS = 2000


def _get_column(records: Iterable[dict[str, Any]], key: str) -> FloatArray:
    """Return one value of each record; missing and non-finite values are NaN."""
    values = np.array([record.get(key) for record in records], dtype=np.float64)
    return np.where(np.isfinite(values), values, np.nan)


def _thin(*columns: FloatArray) -> list[FloatArray]:
    """Subsample columns of equal length evenly to at most about `MAX_POINTS` values."""
    stride = 1 + len(columns[0]) // MAX_POINTS
    return [column[::stride] for column in columns]


def _smooth(values: FloatArray) -> FloatArray:
    """Return the centred moving mean over 1/40 of the values; NaN is left out and stays NaN."""
    window = 1 + 2 * (len(values) // 80)
    finite = np.isfinite(values)
    kernel = np.ones(window)
    sums = np.convolve(np.where(finite, values, 0), kernel, "full")
    counts = np.convolve(finite, kernel, "full")
    centre = slice(window // 2, window // 2 + len(values))
    return np.where(finite, sums[centre] / np.maximum(counts[centre], 1), np.nan)


def draw_loss(axes: Axes, records: Records) -> None:
    """Draw the training loss, raw and smoothed, and the validation loss."""
    train, val = records["train"], records["val"]
    if not train and not val:
        axes.text(0.5, 0.5, "no step logged yet", transform=axes.transAxes, ha="center")
        return
    shown: list[FloatArray] = []
    if train:
        epochs, raw = _get_column(train, "epoch"), _get_column(train, "loss")
        mean = _smooth(raw)
        axes.plot(*_thin(epochs, raw), color=BLUE, alpha=0.25, linewidth=0.8)
        axes.plot(*_thin(epochs, mean), color=BLUE, label="train", **_marks(len(raw)))
        shown += [mean, np.nanpercentile(raw, [99]) if np.isfinite(raw).any() else raw]
    if val:
        _draw_column(axes, val, "loss", ORANGE, label="val")
        shown.append(_get_column(val, "loss"))
    put_legend_above(axes)
    # The axis ignores the highest percent, such as the first steps.
    top = np.nanmax(np.concatenate([*shown, [0.0]]))
    axes.set_ylim(0, 1.08 * top or 1)


def draw_score(axes: Axes, records: Records) -> None:
    """Draw the validation mIoU and mark the best."""
    val = records["val"]
    _draw_column(axes, val, "miou", GREEN)
    scores, epochs = _get_column(val, "miou"), _get_column(val, "epoch")
    axes.set_ylim(0, 1)
    if not np.isfinite(scores).any():
        return
    best = int(np.nanargmax(scores))
    axes.set_ylim(0, min(1.0, 1.25 * scores[best]) or 1)
    axes.plot(epochs[best], scores[best], "o", color=GREEN, markersize=8, fillstyle="none")
    write_above(axes, f"best {scores[best]:.3f} at epoch {epochs[best]:.4g}", GREEN)


def draw_rate(axes: Axes, records: Records) -> None:
    """Draw the learning rate."""
    _draw_column(axes, records["train"], "lr", BLUE)
    axes.ticklabel_format(axis="y", style="sci", scilimits=(0, 0))
    axes.set_ylim(bottom=0)


def draw_throughput(axes: Axes, records: Records, images_per_step: int) -> None:
    """Draw images per second, per step and smoothed."""
    step_s = _get_column(records["train"], "step_s")
    epochs = _get_column(records["train"], "epoch")
    per_s = np.divide(images_per_step, step_s, out=np.full(len(step_s), np.nan), where=step_s > 0)
    axes.plot(*_thin(epochs, per_s), color=FAINT, alpha=0.35, linewidth=0.7)
    if len(per_s):
        axes.plot(*_thin(epochs, _smooth(per_s)), color=BLUE)
    if np.isfinite(per_s).any():
        axes.set_ylim(0, 1.15 * float(np.nanpercentile(per_s, 99)))
        write_above(axes, f"median {np.nanmedian(per_s):.3g} images/s")


def finish_panels(panels: Sequence[Axes], labels: Sequence[str], records: Records) -> None:
    """Label panels one above the other, which share their epochs, and mark the sessions."""
    for axes, label in zip(panels, labels, strict=True):
        axes.set_ylabel(label)
    panels[-1].set_xlabel("epoch")
    points = records["train"] + records["val"]
    if points:
        panels[-1].set_xlim(0, 1.01 * max(record["epoch"] for record in points) or 1)
        _mark_sessions(panels, records)


def _draw_column(
    axes: Axes, records: list[dict[str, Any]], key: str, color: str, label: str | None = None
) -> None:
    epochs, values = _thin(_get_column(records, "epoch"), _get_column(records, key))
    axes.plot(epochs, values, color=color, label=label, **_marks(len(values)))


def _marks(num_points: int) -> dict[str, Any]:
    """Return the options of markers, which are omitted if there are many points."""
    return {"marker": "o", "markersize": 4 if num_points <= 40 else 2 if num_points <= 120 else 0}


def _mark_sessions(panels: Sequence[Axes], records: Records) -> None:
    """Draw a dashed line at the start of each session but the first; close ones share a label."""
    points = records["train"] or records["val"]
    starts = [record for record in records["session"] if record.get("event") == "start"][1:]
    places = np.interp(
        _get_column(starts, "step"), _get_column(points, "step"), _get_column(points, "epoch")
    )
    label_width = 0.1 * panels[0].get_xlim()[1]
    above = panels[0].get_xaxis_transform()
    groups: list[Any] = []
    for number, place in enumerate(places, start=2):
        for axes in panels:
            axes.axvline(place, color=FAINT, linestyle=(0, (4, 3)), linewidth=0.8)
        if groups and place - groups[-1][0] < label_width:
            groups[-1][2] = number
        else:
            groups.append([place, number, number])
    for place, first, last in groups:
        text = f"session {first}" if first == last else f"sessions {first}–{last}"
        panels[0].text(place, 1.02, text, transform=above, fontsize=8, color=SOFT)
