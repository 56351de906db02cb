"""The model that every variant is: a backbone, a head, logits at the picture's size."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from atrous.errors import ConfigError
from atrous.models.interfaces import Backbone, Head
from atrous.models.layers import crop, upsample

if TYPE_CHECKING:
    from atrous.models.card import ModelCard


class Segmenter(nn.Module):
    """A network that says for every pixel of a picture which class it is.

    Made by `build_model` or `load_model`.

    Args:
        backbone: Turns the picture into feature maps.
        head: Turns the list of feature maps into logits at its own stride. One whose logits go a
            row or column beyond an odd size says so: `overshoots = True`.
        auxiliary_head: Turns the feature maps into more logits, for the auxiliary loss; or None.
        name: Name of the variant.
        options: What `build_model` was given, with its defaults; plain values that JSON can hold.

    Attributes:
        num_classes: Channels of the logits.
        in_channels: Channels of the picture.
        card: What the weights file knew of the classes and pictures; None if from no file.

    Shapes:
        image: float (batch, in_channels, H, W), normalised; H and W from 32 up, odd ones too
        returns: logits, float (batch, num_classes, H, W)
    """

    card: "ModelCard | None" = None

    def __init__(
        self,
        backbone: Backbone,
        head: nn.Module,
        auxiliary_head: nn.Module | None,
        *,
        name: str,
        options: dict[str, Any],
    ) -> None:
        super().__init__()
        self.backbone = backbone
        self.head = head
        self.auxiliary_head = auxiliary_head
        self.name = name
        self.options = options
        self.num_classes: int = options["num_classes"]
        self.in_channels: int = options.get("in_channels", 3)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits at the picture's size."""
        return self.resize_logits(self.head(self.backbone(image)), image)

    def compute_training_logits(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute the main logits and, if the model has an auxiliary head, its logits.

        Shapes:
            image: float (batch, in_channels, H, W), normalised
            returns: two floats (batch, num_classes, H, W), or one and None
        """
        features = self.backbone(image)
        logits = self.resize_logits(self.head(features), image)
        if self.auxiliary_head is None:
            return logits, None
        return logits, _resize_logits(self.auxiliary_head(features), image)

    def list_classifier_paths(self) -> list[str]:
        """Return the paths of the modules whose weights depend on the number of classes.

        Example:
            >>> build_model("deeplabv3_report").list_classifier_paths()
            ['head.classifier', 'head.classifier_norm']
        """
        return [
            f"{name}.{path}"
            for name, head in (("head", self.head), ("auxiliary_head", self.auxiliary_head))
            if isinstance(head, Head)
            for path in head.classifier_paths
        ]

    def resize_logits(self, logits: Tensor, image: Tensor) -> Tensor:
        """Bring the head's logits to the height and width of a picture."""
        if getattr(self.head, "overshoots", False):
            logits = crop(logits, image.shape[-2:])
        return _resize_logits(logits, image)

    @torch.inference_mode()
    def sample_probs(
        self, image: Tensor, *, num_samples: int = 40, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Draw predictions with dropout on, and return their mean and how far they disagree.

        Monte-Carlo dropout: all else is as in evaluation. Made for Bayesian SegNet; any model with
        dropout can be asked. The same seed gives the same samples on the same device, and torch's
        own random state stays as it is.

        Args:
            image: Normalised pictures.
            num_samples: Forward passes; the paper finds that 6 beat a single pass without dropout
                and that about 40 settle.
            seed: Of the dropout.

        Returns:
            The mean probabilities, and the uncertainty: the variance of a class's probability over
            the samples, averaged over the classes; 0 where all agree, below 0.25.

        Shapes:
            image: float (batch, in_channels, H, W), normalised
            returns: float (batch, num_classes, H, W) and (batch, H, W)

        Raises:
            ConfigError: The model has no dropout, or `num_samples` is below 2.

        Source: Kendall et al. 2015, arXiv:1511.02680, section 3 and figure 3.
        """
        if num_samples < 2:
            raise ConfigError(
                f"num_samples must be at least 2 to have a variance, got {num_samples}."
            )
        devices = [image.device] if image.device.type == "cuda" else []
        self.require_dropout()
        with self._dropout_alone(), torch.random.fork_rng(devices):
            torch.manual_seed(seed)
            mean = self(image).softmax(1)
            squares = torch.zeros_like(mean)
            for number in range(2, num_samples + 1):
                probs = self(image).softmax(1)
                deviation = probs - mean
                mean += deviation / number
                squares += deviation * (probs - mean)
        return mean, squares.mean(1) / num_samples

    def require_dropout(self) -> None:
        """Refuse a model that would give the same sample every time.

        Raises:
            ConfigError: It has no dropout.
        """
        if not any(self._iterate_dropouts()):
            raise ConfigError(
                f"{self.name} has no dropout to draw samples with. Train bayesian_segnet, or a "
                "model whose option dropout is above 0."
            )

    def _iterate_dropouts(self) -> Iterator[nn.Module]:
        return (module for module in self.modules() if isinstance(module, _DROPOUTS) and module.p)

    @contextmanager
    def _dropout_alone(self) -> Iterator[None]:
        """Put the dropout into training mode and all else into evaluation mode, for a while."""
        modes = {module: module.training for module in self.modules()}
        self.eval()
        try:
            for dropout in self._iterate_dropouts():
                dropout.train()
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode


_DROPOUTS = (nn.Dropout, nn.Dropout2d)


def _resize_logits(logits: Tensor, image: Tensor) -> Tensor:
    # Under autocast the small logits become float32: the steps of bfloat16 would show when resized.
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return upsample(precise, image.shape[-2:])
