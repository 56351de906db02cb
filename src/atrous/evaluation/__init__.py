"""Knowing how good a model is."""

from atrous.evaluation.compare import compare
from atrous.evaluation.comparison import Comparison
from atrous.evaluation.conventions import Convention, compute_conventions
from atrous.evaluation.counts import Counts
from atrous.evaluation.evaluate import EvaluationReport, evaluate
from atrous.evaluation.evaluate_model import (
    Evaluation,
    ImageResult,
    evaluate_engine,
    evaluate_model,
)
from atrous.evaluation.image_counts import ImageCounts, load_image_counts
from atrous.evaluation.metrics import ClassScore, Scores, compute_scores
from atrous.evaluation.temperature import fit_temperature

__all__ = [
    "ClassScore",
    "Comparison",
    "Convention",
    "Counts",
    "Evaluation",
    "EvaluationReport",
    "ImageCounts",
    "ImageResult",
    "Scores",
    "compare",
    "compute_conventions",
    "compute_scores",
    "evaluate",
    "evaluate_engine",
    "evaluate_model",
    "fit_temperature",
    "load_image_counts",
]
