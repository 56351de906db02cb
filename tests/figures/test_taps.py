"""The figure of taps: every kind of map, and files as they should be."""

import pytest
from matplotlib.patches import Rectangle
from PIL import Image

from atrous.errors import AtrousError, ConfigError
from atrous.figures.taps import MAX_COLUMNS, TapsPanel, build_taps_figure, save_taps_figure

REPORT = [
    TapsPanel("aspp.1", 8, (16, 16), 4.0),
    TapsPanel("aspp.2", 12, (16, 16), 2.25),
    TapsPanel("aspp.3", 16, (16, 16), 1.0),
]


def count_taps(axes):
    inside = [patch for patch in axes.patches if isinstance(patch, Rectangle) and patch.zorder == 3]
    return len(inside), len([line for line in axes.lines if line.get_marker() == "x"])


def test_the_taps_are_where_they_fall():
    figure = build_taps_figure(REPORT, "report")
    centre, corner = figure.axes[: len(REPORT)], figure.axes[len(REPORT) :]
    assert [count_taps(axes) for axes in centre] == [(4, 5), (1, 8), (1, 8)]
    assert [count_taps(axes) for axes in corner] == [(4, 5), (4, 5), (1, 8)]


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize(
    "panels",
    [
        REPORT[:1],
        [TapsPanel("wide", 36, (65, 129), 5.0), TapsPanel("one cell", 2, (1, 1), 1.0)],
        [TapsPanel(f"conv {i}", 2, (16, 16), 20.0, kernel_size=5) for i in range(MAX_COLUMNS + 2)],
    ],
    ids=["one", "odd maps", "many"],
)
def test_every_file_is_an_image_and_the_same_each_time(tmp_path, panels):
    for suffix in ("png", "svg", "pdf"):
        path = tmp_path / "new" / f"taps.{suffix}"
        save_taps_figure(path, panels, title="model")
        first = path.read_bytes()
        save_taps_figure(path, panels, title="model")
        assert path.read_bytes() == first
    with Image.open(tmp_path / "new/taps.png") as image:
        assert min(image.size) >= 700


def test_what_cannot_be_drawn_says_why(tmp_path):
    with pytest.raises(ConfigError, match=r"\.pdf.*taps\.gif"):
        save_taps_figure(tmp_path / "taps.gif", REPORT, title="")
    with pytest.raises(ConfigError, match="no atrous convolution"):
        save_taps_figure(tmp_path / "taps.png", [], title="")
    (tmp_path / "file").write_text("")
    with pytest.raises(AtrousError, match="cannot be written"):
        save_taps_figure(tmp_path / "file" / "taps.png", REPORT, title="")
