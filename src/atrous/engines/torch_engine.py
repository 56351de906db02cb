"""Runs a network in PyTorch."""

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from atrous.devices import Precision, resolve_precision
from atrous.engines.engine import Engine
from atrous.engines.logits import check_finite, compute_mask, compute_upsampled_mask
from atrous.engines.tta import TTA, resize_rows
from atrous.errors import ConfigError
from atrous.images import normalize, resize_image
from atrous.models import Segmenter

_MAX_BATCH_PIXELS = {"cpu": 3 * 2**17, "cuda": 2**24}
"""On a CPU, feature maps of larger batches outgrow the caches: 128×128 images gain 40 % in batches
of 8, 480×360 images 2 to 5 % in batches of 2, and lose in batches of 3. A GPU is fully used below
its limit."""

_MAX_LOGITS = 2**28
"""Logits of images that are evaluated together: 1 GiB in float32."""


class TorchEngine(Engine):
    """Runs a `Segmenter` on its current device and in its current mode.

    Args:
        model: The network, with a card.
        precision: `32`, or `bf16` to run the network under autocast.
        channels_last: Whether images are passed in this memory format, faster in convolutions.

    Raises:
        ConfigError: The model has no card, or `tta` samples dropout that the model does not have.
    """

    def __init__(
        self,
        model: Segmenter,
        *,
        tta: TTA = TTA(),
        precision: Precision = "32",
        channels_last: bool = True,
    ) -> None:
        if model.card is None:
            raise ConfigError(
                f"This {model.name} has no card, so its classes and normalization are unknown. "
                "Load it with `load_model`, or set `model.card` to a `ModelCard`."
            )
        if tta.samples > 1:
            model.require_dropout()
        device = next(model.parameters()).device
        precision = resolve_precision(precision, device)
        super().__init__(model.card, name="torch", precision=precision, device=device, tta=tta)
        self.model = model
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def iterate_weights(self) -> Iterator[bytes | memoryview]:
        """Yield the names and bytes of all tensors of the state dict."""
        for name, tensor in self.model.state_dict().items():
            yield name.encode()
            values = tensor.detach().cpu().contiguous().reshape(-1)
            yield memoryview(values.view(torch.uint8).numpy())

    def compute_batch_size(self, height: int, width: int) -> int:
        """Return the most efficient batch size for images of a size."""
        if not self._is_single_pass(height, width):
            return 1
        return max(1, _MAX_BATCH_PIXELS.get(self.device.type, 0) // (height * width))

    @property
    def batch_pixels(self) -> int:
        """See `Engine`.

        On a CPU, batches would gain little, and the logits would depend on them in the last bits.
        """
        if self.device.type == "cpu":
            return 0
        return min(_MAX_BATCH_PIXELS["cuda"], _MAX_LOGITS // len(self.classes))

    @torch.inference_mode()
    def compute_all_logits(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return the logits of several images; those the network sees at one size are a batch."""
        by_size: dict[tuple[int, int] | None, list[int]] = {}
        for index, image in enumerate(images):
            size_hw = self._find_single_hw(image.shape[-2], image.shape[-1])
            by_size.setdefault(size_hw, []).append(index)
        logits: dict[int, Tensor] = {}
        for size_hw, indices in by_size.items():
            if size_hw is None or len(indices) == 1:
                logits |= {index: self.compute_logits(images[index]) for index in indices}
                continue
            batch = [resize_image(images[index].to(self.device), size_hw) for index in indices]
            for index, one in zip(indices, self._run(batch), strict=True):
                height, width = images[index].shape[-2:]
                logits[index] = resize_rows(one, (height, width), slice(0, height))
        return [logits[index] for index in range(len(images))]

    @torch.inference_mode()
    def predict_masks(
        self, images: Sequence[Tensor], check: Callable[[], object] = lambda: None
    ) -> list[Tensor]:
        """Return the masks of images of one size, computed as one batch; see `predict_mask`."""
        size_hw = (images[0].shape[-2], images[0].shape[-1])
        if len(images) == 1 or not self._is_single_pass(*size_hw):
            return super().predict_masks(images, check)
        batch = [image.to(self.device) for image in images]
        on_cpu = self.device.type == "cpu"
        logits = self._run_small(batch) if on_cpu else self._run(batch)
        check_finite(logits)
        return [
            compute_upsampled_mask(one, size_hw) if on_cpu else compute_mask(one) for one in logits
        ]

    def _forward(self, image: Tensor) -> Tensor:
        if self.tta.samples == 1:
            return self._run([image])[0]
        with self._autocast():
            probs, _ = self.model.sample_probs(
                self._normalize([image]), num_samples=self.tta.samples
            )
        return probs[0].float().clamp_min(torch.finfo(torch.float32).tiny).log()

    def _forward_small(self, image: Tensor) -> Tensor:
        return self._run_small([image])[0]

    def _run(self, images: Sequence[Tensor]) -> Tensor:
        with self._autocast():
            return self.model(self._normalize(images)).float()

    def _run_small(self, images: Sequence[Tensor]) -> Tensor:
        with self._autocast():
            return self.model.head(self.model.backbone(self._normalize(images))).float()

    def _normalize(self, images: Sequence[Tensor]) -> Tensor:
        # A single image is stacked too: the strides of image[None] are ambiguous, and convolutions
        # that do not recognize channels_last are 20 % slower.
        card = self.card
        pixels = normalize(torch.stack(list(images)), card.mean, card.std, card.ranges)
        return pixels.contiguous(memory_format=self.memory_format)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")
