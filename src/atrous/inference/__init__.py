"""Using a trained model on pictures."""

from atrous.inference.engine import Engine, TorchEngine, resolve_device, resolve_precision
from atrous.inference.open_engine import open_engine
from atrous.inference.predict import PredictionReport, predict
from atrous.inference.views import Views

__all__ = [
    "Engine",
    "PredictionReport",
    "TorchEngine",
    "Views",
    "open_engine",
    "predict",
    "resolve_device",
    "resolve_precision",
]
