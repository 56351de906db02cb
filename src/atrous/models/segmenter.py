"""The segmentation model: a backbone, a head, and logits at the size of the image."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from atrous.errors import ConfigError
from atrous.models.interfaces import Backbone, Head
from atrous.models.layers import crop, resize_logits

if TYPE_CHECKING:
    from atrous.models.card import ModelCard


class Segmenter(nn.Module):
    """A network that computes class logits for every pixel of an image.

    Built by `build_model` or `load_model`.

    Args:
        auxiliary_head: Computes the logits of the auxiliary loss; or None.
        options: All options of `build_model`, as values that JSON can hold.

    Attributes:
        num_classes: Channels of the logits.
        in_channels: Channels of the image.
        card: Classes and preprocessing of the weights file; None without a file.

    Shapes:
        image: float (batch, in_channels, H, W), normalized; H and W of at least 32, also odd
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
        self.backbone, self.head, self.auxiliary_head = backbone, head, auxiliary_head
        self.name, self.options = name, options
        self.num_classes: int = options["num_classes"]
        self.in_channels: int = options.get("in_channels", 3)

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits at the size of the image."""
        return resize_logits(self.crop_logits(self.head(self.backbone(image)), image), image)

    def compute_training_logits(
        self, image: Tensor, *, resize: bool = True
    ) -> tuple[Tensor, Tensor | None]:
        """Compute the logits of the head and of the auxiliary head, if there is one.

        Args:
            resize: Whether to resize the logits to the size of the image, as `SegmentationLoss`
                does too.

        Shapes:
            image: float (batch, in_channels, H, W), normalized
            returns: two floats (batch, num_classes, H, W), or one and None
        """
        features = self.backbone(image)
        logits = self.crop_logits(self.head(features), image)
        auxiliary_logits = None if self.auxiliary_head is None else self.auxiliary_head(features)
        if not resize:
            return logits, auxiliary_logits
        if auxiliary_logits is not None:
            auxiliary_logits = resize_logits(auxiliary_logits, image)
        return resize_logits(logits, image), auxiliary_logits

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

    def crop_logits(self, logits: Tensor, image: Tensor) -> Tensor:
        """Crop the head's logits if they are larger than the image."""
        return crop(logits, image.shape[-2:]) if getattr(self.head, "overshoots", False) else logits

    @torch.inference_mode()
    def sample_probs(
        self, image: Tensor, *, num_samples: int = 40, seed: int = 0
    ) -> tuple[Tensor, Tensor]:
        """Sample predictions with dropout, and return their mean and uncertainty.

        Monte-Carlo dropout: everything else is in evaluation mode. It is meant for Bayesian SegNet,
        but works for every model with dropout. Samples are reproducible for a seed and device, and
        the global random state does not change.

        Args:
            num_samples: Number of forward passes; in the paper, 6 are better than one pass without
                dropout, and about 40 are enough.

        Returns:
            The mean probabilities, and the uncertainty: the variance of a class's probability over
            the samples, averaged over the classes; between 0 and 0.25.

        Shapes:
            image: float (batch, in_channels, H, W), normalized
            returns: float (batch, num_classes, H, W) and (batch, H, W)

        Raises:
            ConfigError: The model has no dropout, or `num_samples` is less than 2.

        Source: Kendall et al. 2015, arXiv:1511.02680, section 3 and figure 3.
        """
        if num_samples < 2:
            raise ConfigError(
                f"num_samples must be at least 2 to compute a variance, got {num_samples}."
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
        """Raise a ConfigError if the model has no dropout."""
        if not self._list_dropouts():
            raise ConfigError(
                f"{self.name} has no dropout, so all samples would be equal. Train "
                "bayesian_segnet, or a model whose option dropout is above 0."
            )

    def _list_dropouts(self) -> list[nn.Module]:
        kinds = (nn.Dropout, nn.Dropout2d)
        return [module for module in self.modules() if isinstance(module, kinds) and module.p]

    @contextmanager
    def _dropout_alone(self) -> Iterator[None]:
        """Put dropout into training mode and everything else into evaluation mode."""
        modes = {module: module.training for module in self.modules()}
        self.eval()
        try:
            for dropout in self._list_dropouts():
                dropout.train()
            yield
        finally:
            for module, mode in modes.items():
                module.training = mode
