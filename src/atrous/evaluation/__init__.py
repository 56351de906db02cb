"""Knowing how good a model is."""

from atrous.evaluation.compare import compare
from atrous.evaluation.comparison import Comparison
from atrous.evaluation.counts import Counts
from atrous.evaluation.evaluate import Evaluation, EvaluationReport, evaluate, evaluate_model
from atrous.evaluation.image_counts import ImageCounts, load_image_counts
from atrous.evaluation.metrics import ClassScore, Scores, compute_scores

__all__ = [
    "ClassScore",
    "Comparison",
    "Counts",
    "Evaluation",
    "EvaluationReport",
    "ImageCounts",
    "Scores",
    "compare",
    "compute_scores",
    "evaluate",
    "evaluate_model",
    "load_image_counts",
]
