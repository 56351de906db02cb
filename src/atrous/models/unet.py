"""U-Net as in the paper, and with another backbone as encoder."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from atrous.models.interfaces import Backbone, Head
from atrous.models.layers import conv_norm_relu, crop, init_he


class UNetEncoder(Backbone):
    """The contracting path: five times two 3x3 convolutions, with max pooling in between.

    Source: Ronneberger et al. 2015, arXiv:1505.04597, figure 1.
    """

    channels = (64, 128, 256, 512, 1024)
    strides = (1, 2, 4, 8, 16)

    def __init__(self, *, norm: str = "batch", in_channels: int = 3) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            _two_convs(before, width, norm)
            for before, width in zip((in_channels, *self.channels), self.channels, strict=False)
        )
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        init_he(self)

    def forward(self, image: Tensor) -> list[Tensor]:
        """Compute the five feature maps."""
        features = [self.stages[0](image)]
        for stage in list(self.stages)[1:]:
            features.append(stage(self.pool(features[-1])))
        return features


class UNetHead(Head):
    """The expanding path: up-convolution, concatenation with the encoder's map, two convolutions.

    Differences from the paper: convolutions are padded, so that the logits have the size of the
    image, and normalized (in the paper, they have biases). Pooling rounds odd sizes up, and the
    upsampled map is cropped to the encoder's, where the paper crops the encoder's.

    Args:
        backbone: Each of its maps has twice the channels of the one before.
        dropout: Dropout at the end of the contracting path.

    Source: Ronneberger et al. 2015, arXiv:1505.04597, section 2 and figure 1.
    """

    def __init__(self, backbone: Backbone, num_classes: int, *, norm: str, dropout: float) -> None:
        super().__init__()
        self.input_stages = tuple(range(len(backbone.channels)))
        widths = backbone.channels[-2::-1]
        self.dropout = nn.Dropout(dropout)
        self.ups = nn.ModuleList(
            nn.ConvTranspose2d(2 * width, width, 2, stride=2) for width in widths
        )
        self.stages = nn.ModuleList(_two_convs(2 * width, width, norm) for width in widths)
        self.classifier = nn.Conv2d(widths[-1], num_classes, 1)
        init_he(self)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Compute the logits at the size of the image."""
        *skips, deepest = features
        decoded = self.dropout(deepest)
        for up, stage, skip in zip(self.ups, self.stages, reversed(skips), strict=True):
            raised = crop(up(decoded), skip.shape[-2:])
            decoded = stage(torch.cat([skip, raised], dim=1))
        return self.classifier(decoded)


class UNetBackboneHead(Head):
    """The expanding path on any backbone, as in segmentation-models-pytorch.

    Five times: nearest-neighbour upsampling, concatenation with the encoder's map (where there is
    one), two 3x3 convolutions. The classifier is a 3x3 convolution.

    Args:
        backbone: A backbone with maps at strides 2, 4, 8, 16 and 32, or without the first.

    Shapes:
        returns: logits, float (batch, num_classes, H, W), larger by up to three rows or columns
    """

    overshoots = True
    widths = (256, 128, 64, 32, 16)

    def __init__(self, backbone: Backbone, num_classes: int, *, norm: str) -> None:
        super().__init__()
        self.input_stages = tuple(range(len(backbone.channels)))
        *skips, deepest = backbone.channels
        skip_channels = (*reversed(skips), *[0] * (len(self.widths) - len(skips)))
        before = (deepest, *self.widths[:-1])
        self.stages = nn.ModuleList(
            _two_convs(sum(inputs), width, norm)
            for *inputs, width in zip(before, skip_channels, self.widths, strict=True)
        )
        self.classifier = nn.Conv2d(self.widths[-1], num_classes, 3, padding=1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Compute the logits at the size of the image."""
        *skips, decoded = features
        skips.reverse()
        for stage, skip in zip(self.stages, skips, strict=False):
            raised = F.interpolate(decoded, size=skip.shape[-2:], mode="nearest")
            decoded = stage(torch.cat([raised, skip], dim=1))
        for stage in self.stages[len(skips) :]:
            decoded = stage(F.interpolate(decoded, scale_factor=2, mode="nearest"))
        return self.classifier(decoded)


def _two_convs(in_channels: int, out_channels: int, norm: str) -> nn.Sequential:
    return nn.Sequential(
        *conv_norm_relu(in_channels, out_channels, 3, norm=norm),
        *conv_norm_relu(out_channels, out_channels, 3, norm=norm),
    )
