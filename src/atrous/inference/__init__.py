"""Using a trained model on pictures."""

from atrous.inference.engine import Engine, TorchEngine, resolve_device, resolve_precision
from atrous.inference.open_engine import open_engine
from atrous.inference.predict import PredictionReport, predict, predict_stream
from atrous.inference.prediction import Prediction, compute_prediction
from atrous.inference.views import Views

__all__ = [
    "Engine",
    "Prediction",
    "PredictionReport",
    "TorchEngine",
    "Views",
    "compute_prediction",
    "open_engine",
    "predict",
    "predict_stream",
    "resolve_device",
    "resolve_precision",
]
