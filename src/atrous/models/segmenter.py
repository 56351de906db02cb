"""The model that every variant is: a backbone, a head, logits at the picture's size."""

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from atrous.models.backbone import Backbone
from atrous.models.layers import conv_norm_relu, upsample

if TYPE_CHECKING:
    from atrous.models.card import ModelCard


class FCNHead(nn.Sequential):
    """Auxiliary head, for training only: a 3x3 convolution and a classifier, as in torchvision.

    Source: Long et al. 2014, arXiv:1411.4038; as auxiliary loss: arXiv:1612.01105, section 3.3.
    """

    def __init__(self, in_channels: int, num_classes: int, norm: str) -> None:
        super().__init__(
            *conv_norm_relu(in_channels, in_channels // 4, 3, norm=norm),
            nn.Dropout(0.1),
            nn.Conv2d(in_channels // 4, num_classes, 1),
        )


class Segmenter(nn.Module):
    """A network that says for every pixel of a picture which class it is.

    Made by `build_model` or `load_model`.

    Args:
        backbone: Turns the picture into feature maps.
        head: Turns the list of feature maps into logits at its own stride.
        auxiliary_head: Turns one feature map into more logits, for the auxiliary loss; or None.
        name: Name of the variant.
        options: What `build_model` was given, with its defaults; plain values that JSON can hold.

    Attributes:
        num_classes: Channels of the logits.
        card: What the weights file knew of the classes and pictures; None if from no file.

    Shapes:
        image: float (batch, 3, H, W), normalised; H and W from 32 up, odd ones too
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

    def forward(self, image: Tensor) -> Tensor:
        """Compute the logits at the picture's size."""
        return resize_logits(self.head(self.backbone(image)), image)

    def compute_training_logits(self, image: Tensor) -> tuple[Tensor, Tensor | None]:
        """Compute the main logits and, if the model has an auxiliary head, its logits.

        Shapes:
            image: float (batch, 3, H, W), normalised
            returns: two floats (batch, num_classes, H, W), or one and None
        """
        features = self.backbone(image)
        logits = resize_logits(self.head(features), image)
        if self.auxiliary_head is None:
            return logits, None
        auxiliary_logits = self.auxiliary_head(features[self.backbone.auxiliary_stage])
        return logits, resize_logits(auxiliary_logits, image)


def resize_logits(logits: Tensor, image: Tensor) -> Tensor:
    """Bring a head's logits to the height and width of a picture."""
    # Under autocast the small logits become float32: the steps of bfloat16 would show when resized.
    precise = logits.to(torch.promote_types(logits.dtype, torch.float32))
    return upsample(precise, image.shape[-2:])
