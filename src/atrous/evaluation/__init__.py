"""Knowing how good a model is."""

from atrous.evaluation.counts import Counts
from atrous.evaluation.evaluate import Evaluation, EvaluationReport, evaluate, evaluate_model
from atrous.evaluation.metrics import ClassScore, Scores, compute_scores

__all__ = [
    "ClassScore",
    "Counts",
    "Evaluation",
    "EvaluationReport",
    "Scores",
    "compute_scores",
    "evaluate",
    "evaluate_model",
]
