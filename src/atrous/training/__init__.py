"""From a recipe to a run folder."""

from atrous.training.loop import TrainingResult, train

__all__ = ["TrainingResult", "train"]
