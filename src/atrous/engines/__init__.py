"""What runs a network on images: PyTorch and exported files, with test-time augmentation."""

from atrous.engines.engine import Engine
from atrous.engines.open_engine import open_engine
from atrous.engines.torch_engine import TorchEngine
from atrous.engines.views import Views

__all__ = ["Engine", "TorchEngine", "Views", "open_engine"]
