"""Figures of runs and models."""

from atrous.figures.confusion import build_confusion_map
from atrous.figures.curves import (
    build_loss_figure,
    build_rate_figure,
    build_score_figure,
    build_throughput_figure,
    save_loss_curves,
)
from atrous.figures.files import render_inline_svg, save_figure
from atrous.figures.scores import build_class_scores, build_reliability_diagram, build_risk_coverage
from atrous.figures.taps import TapsPanel, save_taps_figure

__all__ = [
    "TapsPanel",
    "build_class_scores",
    "build_confusion_map",
    "build_loss_figure",
    "build_rate_figure",
    "build_reliability_diagram",
    "build_risk_coverage",
    "build_score_figure",
    "build_throughput_figure",
    "render_inline_svg",
    "save_figure",
    "save_loss_curves",
    "save_taps_figure",
]
