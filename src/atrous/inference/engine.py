"""What runs a network on one picture, and on which device and in which precision."""

from collections.abc import Iterator, Sequence
from typing import Literal, Protocol

import torch
from torch import Tensor

from atrous.classes import Classes
from atrous.data import normalize
from atrous.errors import ConfigError, WeightsError
from atrous.inference.upsampled_mask import compute_mask, compute_upsampled_mask
from atrous.inference.views import SMALLEST_PX, Views, iterate_view_blocks
from atrous.inference.windows import Block, assemble_blocks
from atrous.models import ModelCard, Segmenter

Precision = Literal["auto", "32", "bf16"]

_BATCH_PIXELS = {"cpu": 2**18, "cuda": 2**24}
"""Pixels that are worth running at once: beyond these the maps of a batch outgrow a CPU's caches
(128×128 gains two fifths in eights, 480×360 a twentieth in twos), and a GPU is busy anyway."""


class Engine(Protocol):
    """Whatever can segment one picture, in PyTorch or another runtime.

    Attributes:
        name: What runs the network, such as `torch` or `openvino-int8`.
        precision: What it computes in: `32`, `bf16` or `int8`.
        device: Where its results lie.
        card: What is known of classes and pictures.
        views: Scales, mirror images and windows that it looks through.
    """

    name: str
    precision: str
    device: torch.device
    card: ModelCard
    views: Views

    @property
    def classes(self) -> Classes:
        """Names and colours of the classes, in the order of the logits."""
        ...

    @property
    def temperature(self) -> float:
        """What logits are divided by so that probabilities can be trusted."""
        ...

    def require_logits(self) -> None:
        """Raise a ConfigError where there are masks only."""
        ...

    def iterate_weights(self) -> Iterator[bytes | memoryview]:
        """Give all bytes that stand for the network, part after part."""
        ...

    def iterate_blocks(self, image: Tensor) -> Iterator[Block]:
        """Give the logits of a uint8 picture (3, H, W) part after part, each pixel once.

        With a network of its own as `forward`, `iterate_view_blocks` does this for any engine.
        """
        ...

    def compute_logits(self, image: Tensor) -> Tensor:
        """Map a uint8 picture (3, H, W) to float32 logits (classes, H, W)."""
        ...

    def predict_mask(self, image: Tensor) -> Tensor:
        """Map a uint8 picture (3, H, W) to the likeliest class of each pixel, uint8 (H, W)."""
        ...

    def count_together(self, height: int, width: int) -> int:
        """Return how many pictures of a size are best run at once."""
        ...

    def predict_masks(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Do what `predict_mask` does for pictures of one size, together if that is faster."""
        ...


class ViewEngine:
    """An engine but for the network itself: puts the views of a picture together.

    What runs a network is a subclass with a `_forward`.
    """

    def __init__(
        self,
        card: ModelCard,
        *,
        name: str,
        precision: str,
        device: torch.device,
        views: Views = Views(),  # noqa: B008 (immutable)
    ) -> None:
        self.card = card
        self.name = name
        self.precision = precision
        self.device = device
        self.views = views
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
        """Do nothing: there are logits. An engine without them raises a ConfigError."""

    def iterate_weights(self) -> Iterator[bytes | memoryview]:
        """Give all bytes that stand for the network, part after part."""
        raise NotImplementedError

    @torch.inference_mode()
    def iterate_blocks(self, image: Tensor) -> Iterator[Block]:
        """Give logits at the picture's own size, part after part, each pixel once.

        Memory for a large picture is that of its windows, not of all its logits.

        Shapes:
            image: uint8 (3, H, W), any size
            returns: blocks of float32 logits, on the engine's device; of several views, the
                logarithm of their mean probabilities
        """
        self.require_logits()
        yield from self._iterate_blocks(image)

    @torch.inference_mode()
    def compute_logits(self, image: Tensor) -> Tensor:
        """Return logits at the picture's own size.

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
        """Return how many pictures of a size are best run at once."""
        return 1

    def predict_masks(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return the likeliest class of each pixel of pictures of one size.

        Shapes:
            images: uint8 (3, H, W) each
            returns: uint8 (H, W) each, on the engine's device

        Raises:
            WeightsError: The logits are not finite.
        """
        return [self.predict_mask(image) for image in images]

    def _iterate_blocks(self, image: Tensor) -> Iterator[Block]:
        return iterate_view_blocks(self._forward, image, self.views, self.card.size_hw, self._fill)

    def _takes_whole(self, height: int, width: int) -> bool:
        """Say whether `_sees_once`, on a CPU.

        The mask can then be made of the small logits, strip by strip in the cache.
        """
        return self.device.type == "cpu" and self._sees_once(height, width)

    def _sees_once(self, height: int, width: int) -> bool:
        """Say whether the network sees the picture once and as it is."""
        return (
            (self.views.scales, self.views.flip, self.views.samples) == ((1.0,), False, 1)
            and self.views.compute_window_hw(height, width) == (height, width)
            and self.card.size_hw in (None, (height, width))
            and min(height, width) >= SMALLEST_PX
        )

    def _forward(self, image: Tensor) -> Tensor:
        """Map a uint8 picture (3, H, W) to float32 logits (classes, H, W)."""
        raise NotImplementedError

    def _forward_small(self, image: Tensor) -> Tensor:
        """Map a uint8 picture (3, H, W) to float32 logits as the head gives them, or larger."""
        return self._forward(image)


class TorchEngine(ViewEngine):
    """A `Segmenter` on the device it lies on, in the mode it is in.

    Args:
        model: The network; its card says how pictures are normalised and sized.
        views: Scales, mirror images and windows to look through.
        precision: `32`, or `bf16` to run the network under autocast.
        channels_last: Feed pictures in the memory format that convolutions like best.

    Raises:
        ConfigError: The model has no card, or no dropout that samples are asked of.
    """

    def __init__(
        self,
        model: Segmenter,
        *,
        views: Views = Views(),  # noqa: B008 (immutable)
        precision: Precision = "32",
        channels_last: bool = True,
    ) -> None:
        if model.card is None:
            raise ConfigError(
                f"This {model.name} knows neither its classes nor its normalisation: it has no "
                "card. Load it with `load_model`, or set `model.card` to a `ModelCard`."
            )
        if views.samples > 1:
            model.require_dropout()
        device = next(model.parameters()).device
        precision = resolve_precision(precision, device)
        super().__init__(model.card, name="torch", precision=precision, device=device, views=views)
        self.model = model
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format

    def iterate_weights(self) -> Iterator[bytes | memoryview]:
        """Give all bytes that stand for the network, part after part."""
        for name, tensor in self.model.state_dict().items():
            yield name.encode()
            values = tensor.detach().cpu().contiguous().reshape(-1)
            yield memoryview(values.view(torch.uint8).numpy())

    def count_together(self, height: int, width: int) -> int:
        """Return how many pictures of a size are best run at once."""
        if not self._sees_once(height, width):
            return 1
        return max(1, _BATCH_PIXELS.get(self.device.type, 0) // (height * width))

    @torch.inference_mode()
    def predict_masks(self, images: Sequence[Tensor]) -> list[Tensor]:
        """Return the likeliest class of each pixel of pictures of one size, run as one batch.

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
        if self.views.samples == 1:
            return self._run([image])[0]
        with self._autocast():
            probs, _ = self.model.sample_probs(
                self._normalize([image]), num_samples=self.views.samples
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


def check_finite(logits: Tensor) -> None:
    """Refuse logits, or the largest of each pixel, that are not finite.

    Raises:
        WeightsError: They are not.
    """
    if not bool(logits.isfinite().all()):
        raise WeightsError(
            "The model's logits are not finite, so there is no likeliest class. Its weights "
            "are damaged or its training diverged; use other weights, or --precision 32."
        )


def compute_confidence(logits: Tensor, temperature: float = 1.0) -> Tensor:
    """Return the probability of the likeliest class of each pixel.

    Shapes:
        logits: float (classes, H, W)
        returns: float32 (H, W)
    """
    scaled = logits.float() / temperature
    return (scaled.amax(dim=0) - scaled.logsumexp(dim=0)).exp()


def resolve_device(name: str) -> torch.device:
    """Return the device of a name such as `auto`, `cpu`, `cuda` or `cuda:1`.

    Raises:
        ConfigError: There is no such device here.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError, NotImplementedError):
        num_gpus = torch.cuda.device_count()
        here = ["cpu"] + [f"cuda:{index}" for index in range(num_gpus)]
        raise ConfigError(
            f"There is no such device as '{name}' here. Use auto, or one of: {', '.join(here)}."
        ) from None
    return device


def resolve_precision(name: str, device: torch.device) -> Literal["32", "bf16"]:
    """Return `32` or `bf16`; `auto` is bf16 where the device computes in it natively.

    Raises:
        ConfigError: There is no such precision.
    """
    if name == "auto":
        if device.type == "cuda":
            return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "32"
        has_bf16 = getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)  # no public name
        return "bf16" if has_bf16() else "32"
    if name not in ("32", "bf16"):
        raise ConfigError(f"There is no precision '{name}'. Use auto, 32 or bf16.")
    return name  # type: ignore[return-value]
