"""DeepLabv3+."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from atrous.models.aspp import ASPP
from atrous.models.interfaces import Backbone, Head
from atrous.models.layers import conv_norm_relu, upsample


class DeepLabv3PlusHead(Head):
    """ASPP, upsampled, concatenated with low-level features of stride 4, and decoded.

    Args:
        decoder_channels: Channels of the two 3x3 convolutions; 256 in the paper.
        separable: Whether the 3x3 convolutions of ASPP and decoder are depthwise separable (atrous
            separable convolution), as in the paper with Xception.

    Source: Chen et al. 2018, arXiv:1802.02611, sections 3.1 and 4.1.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        atrous_rates: Sequence[int],
        dropout: float,
        norm: str,
        decoder_channels: int,
        separable: bool,
    ) -> None:
        super().__init__()
        low_level_stage = backbone.strides.index(4)
        self.input_stages = (low_level_stage, len(backbone.channels) - 1)
        self.aspp = ASPP(
            backbone.channels[-1],
            atrous_rates=atrous_rates,
            dropout=dropout,
            norm=norm,
            separable=separable,
        )
        self.low_level = conv_norm_relu(backbone.channels[low_level_stage], 48, 1, norm=norm)
        self.decoder = nn.Sequential(
            conv_norm_relu(256 + 48, decoder_channels, 3, norm=norm, separable=separable),
            conv_norm_relu(decoder_channels, decoder_channels, 3, norm=norm, separable=separable),
        )
        self.classifier = nn.Conv2d(decoder_channels, num_classes, 1)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        """Compute the logits at stride 4."""
        low_level, deepest = (features[stage] for stage in self.input_stages)
        low_level_features = self.low_level(low_level)
        context = upsample(self.aspp(deepest), low_level_features.shape[-2:])
        return self.classifier(self.decoder(torch.cat([context, low_level_features], dim=1)))
