"""Figures of a run."""

from atrous.figures.curves import save_loss_curves

__all__ = ["save_loss_curves"]
