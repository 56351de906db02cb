"""Knowing how good a model is."""

from atrous.evaluation.counts import Counts
from atrous.evaluation.evaluate import Evaluation, EvaluationReport, evaluate, evaluate_model
from atrous.evaluation.image_counts import ImageCounts, load_image_counts
from atrous.evaluation.metrics import ClassScore, Scores, compute_scores

__all__ = [
    "ClassScore",
    "Counts",
    "Evaluation",
    "EvaluationReport",
    "ImageCounts",
    "Scores",
    "compute_scores",
    "evaluate",
    "evaluate_model",
    "load_image_counts",
]
