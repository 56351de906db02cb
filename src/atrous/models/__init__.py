"""Models: build, load and save them."""

from atrous.models.card import ModelCard
from atrous.models.segmenter import Segmenter
from atrous.models.weights import load_model, load_weights, save_weights
from atrous.models.zoo import build_model, model_names

__all__ = [
    "ModelCard",
    "Segmenter",
    "build_model",
    "load_model",
    "load_weights",
    "model_names",
    "save_weights",
]
