"""Masks and other outputs of images, archives and videos."""

from atrous.prediction.predict import PredictionReport, predict, predict_stream
from atrous.prediction.prediction import Prediction, compute_prediction

__all__ = ["Prediction", "PredictionReport", "compute_prediction", "predict", "predict_stream"]
