"""The interface of all engines: from an image to its logits and its mask."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from atrous.classes import Classes
from atrous.engines.logits import check_finite, compute_upsampled_mask
from atrous.engines.tta import MIN_PX, TTA, iterate_tta_blocks
from atrous.engines.windows import Block, assemble_blocks
from atrous.images.pixels import compute_fill
from atrous.models import ModelCard


class Engine(ABC):
    """Segments images with a network, in PyTorch or another runtime.

    A subclass runs the network on one image in `_forward`. This class adds test-time
    augmentation, sliding windows and masks.

    Attributes:
        card: Classes, normalization, input size and temperature of the model.
        name: Name of the engine, such as `torch` or `openvino-int8`.
        precision: `32`, `bf16` or `int8`.

    Shapes:
        image: uint8 (3, H, W), or float32 (bands, H, W), any size
        logits: float32 (classes, H, W), on the engine's device; under test-time augmentation, the
            logarithm of the mean probabilities
        mask: uint8 (H, W), on the engine's device
    """

    def __init__(
        self, card: ModelCard, *, name: str, precision: str, device: torch.device, tta: TTA = TTA()
    ) -> None:
        self.card, self.name, self.precision = card, name, precision
        self.device, self.tta = device, tta
        self._fill = compute_fill(card.mean, card.ranges).to(device)

    @property
    def classes(self) -> Classes:
        """Names and colours of the classes, in the order of the logits."""
        return self.card.classes

    @property
    def temperature(self) -> float:
        """Divisor of the logits that calibrates the probabilities."""
        return self.card.temperature

    def require_logits(self) -> None:
        """Raise a ConfigError if the engine returns masks only."""
        return

    @abstractmethod
    def iterate_weights(self) -> Iterator[bytes | memoryview]:
        """Yield the bytes of the network, from which its hash is computed."""

    @torch.inference_mode()
    def iterate_blocks(self, image: Tensor) -> Iterator[Block]:
        """Yield logits at the image's own size, block by block, each pixel once.

        With sliding windows, the logits of the whole image are never in memory at once.

        Raises:
            ConfigError: The engine returns masks only.
        """
        self.require_logits()
        yield from self._iterate_blocks(image)

    @torch.inference_mode()
    def compute_logits(self, image: Tensor) -> Tensor:
        """Return logits at the image's own size.

        Raises:
            ConfigError: The engine returns masks only.
        """
        return assemble_blocks(self.iterate_blocks(image), (image.shape[-2], image.shape[-1]))

    @property
    def batch_pixels(self) -> int:
        """Pixels of images to pass to `compute_all_logits` together; 0 for one image at a time."""
        return 0

    def compute_all_logits(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return the logits of several images; see `compute_logits`."""
        return [self.compute_logits(image) for image in images]

    @torch.inference_mode()
    def predict_mask(self, image: Tensor, check: Callable[[], object] = lambda: None) -> Tensor:
        """Return the most likely class of each pixel.

        Args:
            check: Called between sliding windows; its error ends the prediction.

        Raises:
            WeightsError: The logits are not finite.
        """
        height, width = image.shape[-2:]
        if self.device.type == "cpu" and self._is_single_pass(height, width):
            small = self._forward_small(image.to(self.device))
            check_finite(small)
            return compute_upsampled_mask(small, (height, width))
        mask = torch.empty(height, width, dtype=torch.uint8, device=self.device)
        for rows, columns, block in self.iterate_masks(image, check):
            mask[rows, columns] = block
        return mask

    @torch.inference_mode()
    def iterate_masks(
        self, image: Tensor, check: Callable[[], object] = lambda: None
    ) -> Iterator[tuple[slice, slice, Tensor]]:
        """Yield (rows, columns, mask) of an image block by block; see `predict_mask`."""
        for rows, columns, logits in self._iterate_blocks(image):
            check()
            best, indices = logits.max(dim=0)
            check_finite(best)
            yield rows, columns, indices.to(torch.uint8)

    def compute_batch_size(self, height: int, width: int) -> int:
        """Return the most efficient batch size for images of a size."""
        return 1

    def predict_masks(
        self, images: Sequence[Tensor], check: Callable[[], object] = lambda: None
    ) -> list[Tensor]:
        """Return the masks of images of one size; see `predict_mask`."""
        return [self.predict_mask(image, check) for image in images]

    def _iterate_blocks(self, image: Tensor) -> Iterator[Block]:
        size_hw = self.card.compute_size_hw(image.shape[-2], image.shape[-1])
        return iterate_tta_blocks(self._forward, image, self.tta, size_hw, self._fill)

    def _is_single_pass(self, height: int, width: int) -> bool:
        """Return whether the network runs once, on the image at its own size."""
        return self._find_single_hw(height, width) == (height, width)

    def _find_single_hw(self, height: int, width: int) -> tuple[int, int] | None:
        """Return the size at which the network runs on an image, or None if it runs repeatedly."""
        size_hw = self.card.compute_size_hw(height, width) or (height, width)
        is_single = (
            (self.tta.scales, self.tta.flip, self.tta.samples) == ((1.0,), False, 1)
            and self.tta.compute_window_hw(*size_hw) == size_hw
            and min(size_hw) >= MIN_PX
        )
        return size_hw if is_single else None

    @abstractmethod
    def _forward(self, image: Tensor) -> Tensor:
        """Map an image (bands, H, W) to float32 logits (classes, H, W)."""

    def _forward_small(self, image: Tensor) -> Tensor:
        """Map an image like `_forward`, to logits before their last upsampling if possible."""
        return self._forward(image)
