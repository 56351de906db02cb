"""Runs a network in PyTorch."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from atrous.data import normalize
from atrous.devices import Precision, resolve_precision
from atrous.engines.engine import Engine
from atrous.engines.logits import check_finite, compute_mask, compute_upsampled_mask
from atrous.engines.tta import TTA
from atrous.errors import ConfigError
from atrous.models import Segmenter

_BATCH_PIXELS = {"cpu": 2**18, "cuda": 2**24}
"""Pixels that are worth running at once: beyond these the maps of a batch outgrow a CPU's caches
(128×128 gains two fifths in eights, 480×360 a twentieth in twos), and a GPU is busy anyway."""


class TorchEngine(Engine):
    """A `Segmenter` on the device it lies on, in the mode it is in.

    Args:
        model: The network; its card says how images are normalised and sized.
        tta: Test-time augmentation and sliding windows.
        precision: `32`, or `bf16` to run the network under autocast.
        channels_last: Feed images in the memory format that convolutions like best.

    Raises:
        ConfigError: The model has no card, or no dropout that samples are asked of.
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
                f"This {model.name} knows neither its classes nor its normalisation: it has no "
                "card. Load it with `load_model`, or set `model.card` to a `ModelCard`."
            )
        if tta.samples > 1:
            model.require_dropout()
        device = next(model.parameters()).device
        precision = resolve_precision(precision, device)
        super().__init__(model.card, name="torch", precision=precision, device=device, tta=tta)
        self.model = model
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def iterate_weights(self) -> Iterator[bytes | memoryview]:
        """Give all bytes that stand for the network, part after part."""
        for name, tensor in self.model.state_dict().items():
            yield name.encode()
            values = tensor.detach().cpu().contiguous().reshape(-1)
            yield memoryview(values.view(torch.uint8).numpy())

    def count_together(self, height: int, width: int) -> int:
        """Return how many images of a size are best run at once."""
        if not self._sees_once(height, width):
            return 1
        return max(1, _BATCH_PIXELS.get(self.device.type, 0) // (height * width))

    @torch.inference_mode()
    def predict_masks(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return the likeliest class of each pixel of images of one size, run as one batch.

        Shapes:
            images: uint8 (3, H, W) each
            returns: uint8 (H, W) each, on the engine's device

        Raises:
            WeightsError: The logits are not finite.
        """
        size_hw = (images[0].shape[-2], images[0].shape[-1])
        if len(images) == 1 or not self._sees_once(*size_hw):
            return super().predict_masks(images)
        batch = [image.to(self.device) for image in images]
        run = self._run_small if self.device.type == "cpu" else self._run
        logits = run(batch)
        check_finite(logits)
        if self.device.type == "cpu":
            return [compute_upsampled_mask(one, size_hw) for one in logits]
        return [compute_mask(one) for one in logits]

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
        # Stacked also if it is one: the strides of image[None] do not tell convolutions that it is
        # channels_last, and they are a fifth slower then.
        pixels = normalize(torch.stack(list(images)), self.card.mean, self.card.std)
        return pixels.contiguous(memory_format=self.memory_format)

    def _autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16")
