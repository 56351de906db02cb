"""Figure of the taps of atrous convolutions on their feature maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from atrous.errors import ConfigError
from atrous.figures.files import save_figure
from atrous.figures.style import BLUE, FAINT, ORANGE, SOFT

_MAP, _GRID = "#f1f4f8", "#d5dbe3"
MAX_COLUMNS = 5
_COLUMN_IN, _PANEL_IN = 1.75, 1.75
_MAX_GRID_CELLS = 48
_STYLE: Any = {"font.size": 9.0, "text.parse_math": False, "svg.hashsalt": "atrous"}


@dataclass(frozen=True)
class TapsPanel:
    """One atrous convolution; rate and map in cells, the mean number of its taps on the map."""

    title: str
    rate: int
    map_hw: tuple[int, int]
    valid_taps: float
    kernel_size: int = 3


def save_taps_figure(path: Path, panels: Sequence[TapsPanel], *, title: str) -> None:
    """Draw the taps at the centre and at the corner of each map.

    The same panels always give the same bytes. The errors are those of `save_figure`, and
    ConfigError if there are no panels.
    """
    if not panels:
        raise ConfigError(f"There is no atrous convolution to draw, so {path} is not written.")
    with matplotlib.rc_context(_STYLE):
        figure = build_taps_figure(panels, title)
    save_figure(figure, path)


def build_taps_figure(panels: Sequence[TapsPanel], title: str) -> Figure:
    """Draw one column per panel, in several rows if there are many."""
    num_bands = -(-len(panels) // MAX_COLUMNS)
    num_columns = -(-len(panels) // num_bands)
    size_in = max(4.5, num_columns * _COLUMN_IN + 0.4), num_bands * (2 * _PANEL_IN + 0.6) + 0.8
    figure = Figure(figsize=size_in, layout="constrained")
    figure.suptitle(title, weight="bold", fontsize=11)
    axes = figure.subplots(2 * num_bands, num_columns, squeeze=False)
    for panel_axes in axes.flat:
        panel_axes.set_axis_off()
    for index, panel in enumerate(panels):
        band, column = divmod(index, num_columns)
        centre, corner = axes[2 * band, column], axes[2 * band + 1, column]
        height, width = panel.map_hw
        _draw_place(centre, panel, (height // 2, width // 2))
        _draw_place(corner, panel, (0, 0))
        _write_title(centre, panel)
    handles = [
        Line2D([], [], marker="s", ls="", color=BLUE, label="tap on the map"),
        Line2D([], [], marker="x", ls="", color=ORANGE, label="tap outside: reads zero"),
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=2, frameon=False)
    return figure


def _write_title(axes: Axes, panel: TapsPanel) -> None:
    height, width = panel.map_hw
    num_taps = panel.kernel_size**2
    # The first line of the title is left empty for the bold name.
    text = (
        f"\nrate {panel.rate}, map {height}×{width}\n"
        f"mean {panel.valid_taps:.2f} of {num_taps} taps ({panel.valid_taps / num_taps:.0%})"
    )
    title = axes.set_title(text, fontsize=8, color=SOFT)
    axes.annotate(
        panel.title, (0.5, 1), xycoords=title, ha="center", va="top", weight="bold", fontsize=8.5,
        annotation_clip=False,
    ).set_in_layout(False)  # fmt: skip


def _draw_place(axes: Axes, panel: TapsPanel, place: tuple[int, int]) -> None:
    """Draw the map and the taps of the convolution at one of its cells."""
    (height, width), reach = panel.map_hw, panel.rate * (panel.kernel_size // 2)
    _draw_map(axes, panel.map_hw)
    frame_hw = [max(size + reach, 2 * reach + 1) for size in panel.map_hw]
    margin = 1 + max(frame_hw) / 25
    side = max(1.0, max(frame_hw) / 26)
    num_valid = 0
    offsets = range(-reach, reach + 1, panel.rate)
    for row in (place[0] + offset for offset in offsets):
        for column in (place[1] + offset for offset in offsets):
            if 0 <= row < height and 0 <= column < width:
                num_valid += 1
                corner = column - side / 2, row - side / 2
                tap = Rectangle(corner, side, side, facecolor=BLUE, edgecolor="none", zorder=3)
                axes.add_patch(tap)
            else:
                axes.plot(column, row, "x", color=ORANGE, ms=4.5, mew=1.3, zorder=3)
    is_corner = place == (0, 0)
    # Both panels have the same scale and differ only in the origin of the frame.
    top, left = (
        -reach - 0.5 if is_corner else (size - 1 - frame) / 2
        for size, frame in zip(panel.map_hw, frame_hw, strict=True)
    )
    bottom, right = top + frame_hw[0], left + frame_hw[1]
    axes.set(
        xlim=(left - margin, right + margin), ylim=(bottom + margin, top - margin), aspect="equal"
    )
    axes.text(
        0.5, -0.02, f"in the {'corner' if is_corner else 'centre'}: {num_valid}",
        transform=axes.transAxes, ha="center", va="top", fontsize=8, color=SOFT,
    )  # fmt: skip


def _draw_map(axes: Axes, map_hw: tuple[int, int]) -> None:
    height, width = map_hw
    axes.add_patch(Rectangle((-0.5, -0.5), width, height, facecolor=_MAP, edgecolor="none"))
    if max(map_hw) <= _MAX_GRID_CELLS:
        axes.hlines([row - 0.5 for row in range(1, height)], -0.5, width - 0.5, _GRID, lw=0.4)
        axes.vlines([column - 0.5 for column in range(1, width)], -0.5, height - 0.5, _GRID, lw=0.4)
    axes.add_patch(Rectangle((-0.5, -0.5), width, height, fill=False, edgecolor=FAINT, lw=0.9))
