"""Evaluation: counts, scores, calibration, comparison of runs."""

from atrous.evaluation.calibration import calibrate
from atrous.evaluation.compare import compare
from atrous.evaluation.comparison import RunComparison
from atrous.evaluation.conventions import Convention, compute_conventions
from atrous.evaluation.counts import Counts
from atrous.evaluation.evaluate import EvaluationReport, evaluate
from atrous.evaluation.evaluator import ImageResult, Validation, predict_split, validate_model
from atrous.evaluation.image_counts import ImageCounts, load_image_counts
from atrous.evaluation.metrics import ClassScore, Scores, compute_scores

__all__ = [
    "ClassScore",
    "Convention",
    "Counts",
    "EvaluationReport",
    "ImageCounts",
    "ImageResult",
    "RunComparison",
    "Scores",
    "Validation",
    "calibrate",
    "compare",
    "compute_conventions",
    "compute_scores",
    "evaluate",
    "load_image_counts",
    "predict_split",
    "validate_model",
]
