"""What all engines share: from an image to its logits and its mask."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from atrous.classes import Classes
from atrous.engines.logits import check_finite, compute_upsampled_mask
from atrous.engines.tta import MIN_PX, TTA, iterate_tta_blocks
from atrous.engines.windows import Block, assemble_blocks
from atrous.models import ModelCard


class Engine(ABC):
    """What segments an image, in PyTorch or another runtime.

    A subclass runs the network on one image in `_forward`; test-time augmentation, sliding
    windows and masks are made of it here.

    Attributes:
        card: What is known of classes and images.
        name: What runs the network, such as `torch` or `openvino-int8`.
        precision: What it computes in: `32`, `bf16` or `int8`.
        device: Where its results lie.
        tta: Test-time augmentation and sliding windows.
    """

    def __init__(
        self,
        card: ModelCard,
        *,
        name: str,
        precision: str,
        device: torch.device,
        tta: TTA = TTA(),
    ) -> None:
        self.card = card
        self.name = name
        self.precision = precision
        self.device = device
        self.tta = tta
        mean = torch.tensor(self.card.mean, device=device)
        self._fill = (mean * 255).round().to(torch.uint8)

    @property
    def classes(self) -> Classes:
        """Names and colours of the classes, in the order of the logits."""
        return self.card.classes

    @property
    def temperature(self) -> float:
        """What logits are divided by so that probabilities can be trusted."""
        return self.card.temperature

    def require_logits(self) -> None:
        """Raise a ConfigError if the engine gives masks only."""
        return

    @abstractmethod
    def iterate_weights(self) -> Iterator[bytes | memoryview]:
        """Yield all bytes that stand for the network, part after part."""

    @torch.inference_mode()
    def iterate_blocks(self, image: Tensor) -> Iterator[Block]:
        """Give logits at the image's own size, part after part, each pixel once.

        Memory for a large image is that of its windows, not of all its logits.

        Shapes:
            image: uint8 (3, H, W), any size
            returns: blocks of float32 logits, on the engine's device; of several tta, the
                logarithm of their mean probabilities
        """
        self.require_logits()
        yield from self._iterate_blocks(image)

    @torch.inference_mode()
    def compute_logits(self, image: Tensor) -> Tensor:
        """Return logits at the image's own size.

        Shapes:
            image: uint8 (3, H, W), any size
            returns: float32 (classes, H, W), on the engine's device
        """
        return assemble_blocks(self.iterate_blocks(image), (image.shape[-2], image.shape[-1]))

    @torch.inference_mode()
    def predict_mask(self, image: Tensor) -> Tensor:
        """Return the likeliest class of each pixel.

        Shapes:
            image: uint8 (3, H, W), any size
            returns: uint8 (H, W), on the engine's device

        Raises:
            WeightsError: The logits are not finite.
        """
        height, width = image.shape[-2:]
        if self._takes_whole(height, width):
            small = self._forward_small(image.to(self.device))
            check_finite(small)
            return compute_upsampled_mask(small, (height, width))
        mask = torch.empty(height, width, dtype=torch.uint8, device=self.device)
        for rows, columns, logits in self._iterate_blocks(image):
            best, indices = logits.max(dim=0)
            check_finite(best)
            mask[rows, columns] = indices.to(torch.uint8)
        return mask

    def count_together(self, height: int, width: int) -> int:
        """Return how many images of a size are best run at once."""
        return 1

    def predict_masks(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return the likeliest class of each pixel of images of one size.

        Shapes:
            images: uint8 (3, H, W) each
            returns: uint8 (H, W) each, on the engine's device

        Raises:
            WeightsError: The logits are not finite.
        """
        return [self.predict_mask(image) for image in images]

    def _iterate_blocks(self, image: Tensor) -> Iterator[Block]:
        image = image
        return iterate_tta_blocks(self._forward, image, self.tta, self.card.size_hw, self._fill)

    def _takes_whole(self, height: int, width: int) -> bool:
        """Say whether `_sees_once`, on a CPU.

        The mask can then be made of the small logits, strip by strip in the cache.
        """
        return self.device.type == "cpu" and self._sees_once(height, width)

    def _sees_once(self, height: int, width: int) -> bool:
        """Say whether the network sees the image once and as it is."""
        return (
            (self.tta.scales, self.tta.flip, self.tta.samples) == ((1.0,), False, 1)
            and self.tta.compute_window_hw(height, width) == (height, width)
            and self.card.size_hw in (None, (height, width))
            and min(height, width) >= MIN_PX
        )

    @abstractmethod
    def _forward(self, image: Tensor) -> Tensor:
        """Map a uint8 image (3, H, W) to float32 logits (classes, H, W)."""

    def _forward_small(self, image: Tensor) -> Tensor:
        """Map a uint8 image (3, H, W) to float32 logits as the head gives them, or larger."""
        return self._forward(image)
