"""Figures of scores and of a run's course, down to empty ones."""

import re
from xml.etree import ElementTree

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from atrous.figures import (
    TapsPanel,
    build_class_scores,
    build_confusion_map,
    build_loss_figure,
    build_rate_figure,
    build_reliability_diagram,
    build_risk_coverage,
    build_score_figure,
    build_throughput_figure,
    render_inline_svg,
    save_figure,
    save_taps_figure,
)
from atrous.figures.style import CSS_VARIABLES
from atrous.run import group_records


def build_log(num_steps, *, starts=(0,), bad=False):
    records = [{"kind": "session", "event": "start", "step": step} for step in starts]
    for step in range(1, num_steps + 1):
        loss = float("nan") if bad else 1 / step
        facts = {"step": step, "epoch": step / 5, "loss": loss}
        records.append({"kind": "train", **facts, "lr": 1e-3, "step_s": 0.0 if bad else 0.5})
        if step % 5 == 0:
            records.append({"kind": "val", **facts, "miou": float("nan") if bad else 0.5})
    return group_records(records)


def build_bins(*pixels):
    return [
        {
            "low": index / len(pixels),
            "high": (index + 1) / len(pixels),
            "pixels": count,
            "confidence": (index + 0.5) / len(pixels) if count else None,
            "accuracy": 0.5 if count else None,
        }
        for index, count in enumerate(pixels)
    ]


def build_scores(num_classes, *, gaps=False):
    names = [f"{'very long ' * (index % 3)}class & <{index}>" for index in range(num_classes)]
    scores = [None if gaps and index % 2 else index / num_classes for index in range(num_classes)]
    return names, scores, scores, scores


FIGURES = {
    "loss": lambda: build_loss_figure(build_log(40, starts=[0, 10, 11, 30])),
    "no loss": lambda: build_loss_figure(build_log(0)),
    "loss that is not finite": lambda: build_loss_figure(build_log(12, bad=True)),
    "score": lambda: build_score_figure(build_log(40)),
    "no score": lambda: build_score_figure(build_log(3)),
    "score that is not finite": lambda: build_score_figure(build_log(12, bad=True)),
    "rate": lambda: build_rate_figure(build_log(40)),
    "no rate": lambda: build_rate_figure(build_log(0)),
    "throughput": lambda: build_throughput_figure(build_log(40), 8),
    "no throughput": lambda: build_throughput_figure(build_log(0), 8),
    "throughput of no time": lambda: build_throughput_figure(build_log(9, bad=True), 8),
    "classes": lambda: build_class_scores(*build_scores(21, gaps=True), mean=0.5),
    "one class": lambda: build_class_scores(["a"], [1.0], [1.0], [1.0], mean=1.0),
    "no class": lambda: build_class_scores(["a"], [None], [None], [None], mean=0.0),
    "many classes": lambda: build_class_scores(*build_scores(150), mean=0.5),
    "confusion": lambda: build_confusion_map(np.eye(5) * 9 + 1, list("abcde")),
    "confusion of one class": lambda: build_confusion_map([[4]], ["a"]),
    "confusion of nothing": lambda: build_confusion_map([[0, 0], [0, 0]], ["a", "b"]),
    "confusion of many classes": lambda: build_confusion_map(np.eye(60), build_scores(60)[0]),
    "reliability": lambda: build_reliability_diagram(build_bins(0, 3, 900)),
    "reliability of nothing": lambda: build_reliability_diagram(build_bins(0, 0)),
    "risk": lambda: build_risk_coverage(
        [{"coverage": share, "miou": 1 - share / 2, "pixel_accuracy": 0.9} for share in (1, 0.5)]
    ),
    "risk at one coverage": lambda: build_risk_coverage(
        [{"coverage": 1.0, "miou": 0.5, "pixel_accuracy": 0.9}]
    ),
}


@pytest.mark.parametrize("name", FIGURES)
@pytest.mark.filterwarnings("error")
def test_every_figure_goes_into_a_page(name):
    label = f'{name}, "quoted" & <tagged>'
    svg = render_inline_svg(FIGURES[name](), label)
    root = ElementTree.fromstring(svg.replace("xlink:href", "href"))
    assert (root.get("role"), root.get("aria-label")) == ("img", label)
    colors = set(re.findall(r"#[0-9a-f]{6}\b", re.sub(r"var\([^)]*\)", "", svg)))
    assert not colors, "these do not follow light and dark"
    assert "<style" not in svg
    assert "DejaVu" not in svg


def test_ids_of_two_figures_do_not_meet():
    ids = [
        set(re.findall(r'id="([^"]+)"', render_inline_svg(FIGURES[name](), "")))
        for name in ("rate", "loss")
    ]
    assert all(ids)
    assert not ids[0] & ids[1]
    svg = render_inline_svg(FIGURES["loss"](), "")
    assert set(re.findall(r'(?:url\(|href=")#([\w-]+)', svg)) <= set(
        re.findall(r'id="([^"]+)"', svg)
    )


def test_every_colour_of_a_figure_is_one_of_the_page():
    assert len(set(CSS_VARIABLES.values())) == len(CSS_VARIABLES)


@pytest.mark.parametrize("format", ["png", "svg", "pdf"])
def test_the_same_figure_gives_the_same_bytes(tmp_path, format):
    paths = [
        save_figure(FIGURES["confusion"](), tmp_path / f"{index}.{format}") for index in (1, 2)
    ]
    first, second = (path.read_bytes() for path in paths)
    assert first == second
    assert len(first) > 1000


def test_of_many_classes_the_last_are_shown():
    figure = FIGURES["many classes"]()
    labels = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert len(labels) == 40
    assert labels[-1].endswith("class & <149>") or labels[-1].endswith("…")


def test_no_text_lies_on_a_curve():
    """Legends and remarks stand outside the panels; only the cells of a matrix hold numbers."""
    for name in FIGURES:
        if "confusion" in name or name == "no loss":
            continue
        figure = FIGURES[name]()
        figure.draw_without_rendering()
        for axes in figure.axes:
            texts = [*axes.texts, *([axes.get_legend()] if axes.get_legend() else [])]
            inside = axes.bbox.padded(-1)
            for text in texts:
                assert not inside.overlaps(text.get_window_extent()), (name, text)


@pytest.mark.parametrize("name", ["one class", "risk", "reliability"])
def test_marks_at_the_edge_of_a_panel_are_whole(name):
    """As image: a class with recall 1 has a whole diamond, half of it beyond the panel."""
    for axes in FIGURES[name]().axes:
        marks = [line for line in axes.lines if line.get_marker() not in ("None", "")]
        assert not any(line.get_clip_on() for line in marks)
    figure = FIGURES["one class"]()
    figure.set_dpi(100)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())[..., :3].min(axis=2)
    bbox = figure.axes[0].bbox
    row, right = round(pixels.shape[0] - (bbox.y0 + bbox.y1) / 2), round(bbox.x1)
    beyond = pixels[row - 30 : row + 30, right + 2 : right + 8]
    assert (beyond < 200).any()


def test_a_name_is_text_and_never_a_formula(tmp_path):
    names = ["$\\frac{$", "$x_1$", "\\$5$", "a^b"]
    scores = [0.1, 0.2, 0.3, 0.4]
    for figure in (
        build_class_scores(names, scores, scores, scores, mean=0.5),
        build_confusion_map(np.eye(4) * 9, names),
    ):
        root = ElementTree.fromstring(render_inline_svg(figure, "").replace("xlink:href", "href"))
        assert set(names) <= {
            "".join(text.itertext()) for text in root.iter() if "text" in text.tag
        }
        save_figure(figure, tmp_path / "a.png")
    panel = TapsPanel("$\\frac{$", rate=2, map_hw=(4, 4), valid_taps=4.0, kernel_size=3)
    save_taps_figure(tmp_path / "taps.png", [panel], title="runs/$x_1$ $\\frac{$")
