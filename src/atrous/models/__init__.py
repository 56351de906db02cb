"""Models: build, load and save them. The names are loaded when they are first used."""

from typing import TYPE_CHECKING

from atrous.lazy import import_lazily

if TYPE_CHECKING:
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

__getattr__, __dir__ = import_lazily(
    __name__,
    {
        "atrous.models.card": ["ModelCard"],
        "atrous.models.segmenter": ["Segmenter"],
        "atrous.models.weights": ["load_model", "load_weights", "save_weights"],
        "atrous.models.zoo": ["build_model", "model_names"],
    },
)
