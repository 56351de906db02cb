"""Semantic segmentation with atrous convolution: train, stop anywhere, go on exactly.

The names below are loaded when they are first used, so that `import atrous` is quick.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

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

_HOMES = {
    "build_model": "atrous.models",
    "compare": "atrous.evaluation",
    "evaluate": "atrous.evaluation",
    "export_model": "atrous.export",
    "load_model": "atrous.models",
    "load_weights": "atrous.models",
    "predict": "atrous.prediction",
    "train": "atrous.training",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'atrous' has no attribute '{name}'")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
