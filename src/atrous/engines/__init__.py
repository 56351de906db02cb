"""Engines run a network on images: PyTorch or an exported file, with test-time augmentation."""

from atrous.engines.engine import Engine
from atrous.engines.open_engine import open_engine
from atrous.engines.torch_engine import TorchEngine
from atrous.engines.tta import TTA

__all__ = ["TTA", "Engine", "TorchEngine", "open_engine"]
