"""From a recipe to a run folder."""

from atrous.training.session import TrainingResult, train

__all__ = ["TrainingResult", "train"]
