"""Figures of a run, and of a model."""

from atrous.figures.curves import save_loss_curves
from atrous.figures.taps import TapsPanel, save_taps_figure

__all__ = ["TapsPanel", "save_loss_curves", "save_taps_figure"]
