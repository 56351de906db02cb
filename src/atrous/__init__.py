"""Semantic segmentation with atrous convolution. The names are imported when first used."""

from importlib.metadata import version
from typing import TYPE_CHECKING

from atrous.lazy import import_lazily

if TYPE_CHECKING:
    from atrous.evaluation import compare, evaluate
    from atrous.export import export_model
    from atrous.models import build_model, load_model, load_weights
    from atrous.prediction import predict
    from atrous.training import train

__version__ = version("atrous")

__all__ = [
    "build_model",
    "compare",
    "evaluate",
    "export_model",
    "load_model",
    "load_weights",
    "predict",
    "train",
]

__getattr__, __dir__ = import_lazily(
    __name__,
    {
        "atrous.evaluation": ["compare", "evaluate"],
        "atrous.export": ["export_model"],
        "atrous.prediction": ["predict"],
        "atrous.models": ["build_model", "load_model", "load_weights"],
        "atrous.training": ["train"],
    },
)
