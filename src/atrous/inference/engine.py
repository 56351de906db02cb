"""What runs a network on one picture, and on which device and in which precision."""

from collections.abc import Iterator
from typing import Literal, Protocol

import torch
from torch import Tensor

from atrous.classes import Classes
from atrous.data import normalize
from atrous.errors import ConfigError
from atrous.inference.views import Views, iterate_view_blocks
from atrous.inference.windows import Block, assemble_blocks
from atrous.models import Segmenter

Precision = Literal["auto", "32", "bf16"]


class Engine(Protocol):
    """Whatever can segment one picture, in PyTorch or another runtime."""

    @property
    def classes(self) -> Classes:
        """Names and colours of the classes, in the order of the logits."""
        ...

    @property
    def temperature(self) -> float:
        """What logits are divided by so that probabilities can be trusted."""
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


class TorchEngine:
    """A `Segmenter` on the device it lies on, in evaluation mode for each call.

    Args:
        model: The network; its card says how pictures are normalised and sized.
        views: Scales, mirror images and windows to look through.
        precision: `32`, or `bf16` to run the network under autocast.
        channels_last: Feed pictures in the memory format that convolutions like best.

    Raises:
        ConfigError: The model has no card.
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
        self.model = model
        self.card = model.card
        self.views = views
        self.device = next(model.parameters()).device
        self.precision = resolve_precision(precision, self.device)
        self.memory_format = torch.channels_last if channels_last else torch.contiguous_format
        mean = torch.tensor(self.card.mean, device=self.device)
        self._fill = (mean * 255).round().to(torch.uint8)

    @property
    def classes(self) -> Classes:
        """Names and colours of the classes, in the order of the logits."""
        return self.card.classes

    @property
    def temperature(self) -> float:
        """What logits are divided by so that probabilities can be trusted."""
        return self.card.temperature

    @torch.inference_mode()
    def iterate_blocks(self, image: Tensor) -> Iterator[Block]:
        """Give logits at the picture's own size, part after part, each pixel once.

        Memory for a large picture is that of its windows, not of all its logits.

        Shapes:
            image: uint8 (3, H, W), any size
            returns: blocks of float32 logits, on the model's device; of several views, the
                logarithm of their mean probabilities
        """
        image = image.as_subclass(Tensor)
        yield from iterate_view_blocks(
            self._forward, image, self.views, self.card.size_hw, self._fill
        )

    @torch.inference_mode()
    def compute_logits(self, image: Tensor) -> Tensor:
        """Return logits at the picture's own size.

        Shapes:
            image: uint8 (3, H, W), any size
            returns: float32 (classes, H, W), on the model's device
        """
        return assemble_blocks(self.iterate_blocks(image), (image.shape[-2], image.shape[-1]))

    @torch.inference_mode()
    def predict_mask(self, image: Tensor) -> Tensor:
        """Return the likeliest class of each pixel.

        Shapes:
            image: uint8 (3, H, W), any size
            returns: uint8 (H, W), on the model's device
        """
        mask = torch.empty(image.shape[-2:], dtype=torch.uint8, device=self.device)
        for rows, columns, logits in self.iterate_blocks(image):
            mask[rows, columns] = compute_mask(logits)
        return mask

    def _forward(self, image: Tensor) -> Tensor:
        pixels = normalize(image[None], self.card.mean, self.card.std)
        pixels = pixels.contiguous(memory_format=self.memory_format)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            return self.model(pixels)[0].float()


def compute_mask(logits: Tensor) -> Tensor:
    """Return the likeliest class of each pixel; of equals, the first.

    Shapes:
        logits: float (classes, H, W)
        returns: uint8 (H, W)
    """
    return logits.max(dim=0).indices.to(torch.uint8)  # argmax is three times slower on a CPU


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
